"""Envoy's own counting of tokens in streamed answers, and the event that was asked for on a client's behalf."""

from __future__ import annotations

from extproc.render.parts import NAMESPACE, Json, extension, typed

USAGE_NAMESPACE = "envoy.ai.token_usage"
"""Typed metadata in which Envoy tells what it has counted."""
ENVOY_COUNTS = "envoy_counts"
"""Flag in the filter's dynamic metadata: Envoy is to count the answer."""
STRIP_USAGE = "strip_usage"
"""Another: the client did not ask for the usage event."""
_MANAGER = "envoy.filters.http.ai_protocol_manager"
_MESSAGES = "envoy.extensions.filters.http.ai_protocol_manager.v3"

_STRIP = r"""
-- Takes the event out that only states usage, from uncompressed event streams, wherever the chunks are cut.
-- Held back is at most an unfinished event that may be it.
local MOST = 65536

local function only_usage(event)
  return string.find(event, '"choices"%s*:%s*%[%s*%]') and string.find(event, '"usage"%s*:%s*{')
end

-- Whether an unfinished event can no longer be the one.
local function harmless(event)
  return #event > MOST or string.find(event, '"choices"%s*:%s*%[%s*[^%s%]]') or string.find(event, "^%s*data:%s*[^%s{]")
end

-- Where the blank line that ends the first event is over; nil while it has not come.
local function event_end(text)
  local _, lf = string.find(text, "\n\r?\n")
  local _, cr = string.find(text, "\r\r\n?")
  if lf and cr then return math.min(lf, cr) end
  return lf or cr
end

function envoy_on_response(handle)
  local facts = handle:streamInfo():dynamicMetadata():get("@NAMESPACE@")
  if not facts or not facts["@FLAG@"] then return end
  local headers = handle:headers()
  local kind, encoding = headers:get("content-type"), headers:get("content-encoding")
  if not kind or string.find(string.lower(kind), "text/event-stream", 1, true) ~= 1 then return end
  if encoding and string.lower(encoding) ~= "identity" then return end
  headers:remove("content-length")
  -- `held` is the event that may be it; `passed` the last bytes of one that is not, whose end has not come.
  local held, passed = "", nil
  for chunk in handle:bodyChunks() do
    local size = chunk:length()
    local text = size > 0 and chunk:getBytes(0, size) or ""
    if held ~= "" or passed or string.find(text, '"usage"', 1, true) or string.sub(text, -2) ~= "\n\n" then
      local out = {}
      text, held = held .. text, ""
      while #text > 0 do
        local before = passed or ""
        local stop = event_end(before .. text)
        if stop then
          local event = string.sub(text, 1, stop - #before)
          if passed or not only_usage(event) then out[#out + 1] = event end
          text, passed = string.sub(text, stop - #before + 1), nil
        elseif passed or harmless(text) then
          out[#out + 1] = text
          text, passed = "", string.sub(before .. text, -3)
        else
          text, held = "", text
        end
      end
      chunk:setBytes(table.concat(out))
    end
  end
end
"""


def without_event() -> Json:
    """In front of ext_proc in the chain, so that answers meet it last. To change a chunk sets the `content-length` too,
    as long as the headers are on their way: from here they go straight to the client."""
    script = _STRIP.lstrip().replace("@NAMESPACE@", NAMESPACE).replace("@FLAG@", STRIP_USAGE)
    return extension(
        "envoy.filters.http.lua",
        "envoy.extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": script},
    )


def counting() -> Json:
    """Behind ext_proc in the chain, so that answers meet it first, and ext_proc gets what it has counted. It works on
    routes that `counted_route` marks, and on no other: a whole answer that ext_proc buffers would hang on its trailers.
    """
    return extension(
        _MANAGER,
        f"{_MESSAGES}.AiProtocolManager",
        response_handling={"token_usage": {"usage_signal": "SYNTHESIZE_TRAILERS"}},
    )


def counted_route() -> Json:
    """Settings of a route, by filter."""
    told = {"llm_protocol": "OPENAI_CHAT_COMPLETIONS"}
    return {_MANAGER: typed(f"{_MESSAGES}.AiProtocolManagerPerRoute", response=told)}
