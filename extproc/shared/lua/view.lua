-- For people; changes nothing that is kept. INPUT: {now or false, most, {table, slot limit or -1}..., claims, lookups}.
-- Returns an array: MessagePack of {levels by table, {entries, bytes} by table, waits (0: fits, -1: never), entries or
-- false}, then the bodies of the entries found. Of a table with more keys, the SCANNED used last are looked at.
local SCANNED = 2000
local most = INPUT[2]

local function look_bucket(tab, key)
  local state = load_bucket(tab, key)
  if state then fill(state, NOW) end
  return state
end

local function count_live(name) return redis.call('ZCOUNT', name, '(' .. digits(NOW), '+inf') end

local function levels_of(tab, limit)
  local rows = {}
  local function bucket_row(key)
    local state = look_bucket(tab, key)
    if state then rows[#rows + 1] = {key, state.level, state.capacity} end
  end
  local function slot_row(key) rows[#rows + 1] = {key, limit - count_live(name_of('s', tab, key)), limit} end
  if limit >= 0 then
    if redis.call('EXISTS', name_of('s', tab, '')) == 1 then slot_row('') end
    for _, key in ipairs(redis.call('ZREVRANGE', name_of('si', tab, ''), 0, SCANNED - 1)) do
      if key ~= '' then slot_row(key) end
    end
  end
  bucket_row('')
  for _, key in ipairs(redis.call('ZREVRANGE', name_of('bi', tab, ''), 0, SCANNED - 1)) do
    if key ~= '' then bucket_row(key) end
  end
  table.sort(rows, function(a, b) return a[2] < b[2] end)
  for at = #rows, most + 1, -1 do rows[at] = nil end
  return rows
end

-- Where a claim would be kept, without making room for it; nil where a fresh one would be made.
local function kept_under(claim)
  local kind, tab, key, limit = claim[1], claim[TABLE], claim[KEY], claim[MOST]
  if limit <= 1 and key == '' then return key end
  local index = name_of(kind .. 'i', tab, '')
  if redis.call('ZSCORE', index, key) then return key end
  if redis.call('ZCARD', index) < limit then return nil end
  for _, other in ipairs(redis.call('ZRANGE', index, 0, PROBES - 1)) do
    if kind == 's' and count_live(name_of('s', tab, other)) == 0 then return nil end
    if kind == 'b' then
      local state = look_bucket(tab, other)
      if not state or state.level >= state.capacity then return nil end
    end
  end
  return OVERFLOW
end

local function wait_of(claim)
  local key = kept_under(claim)
  if claim[1] == 's' then
    local count, name = 0, nil
    if key then
      name = name_of('s', claim[TABLE], key)
      count = count_live(name)
      if claim[LIMIT] > 0 and count >= claim[LIMIT] then
        local next_free = redis.call('ZRANGEBYSCORE', name, '(' .. digits(NOW), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
        return wait_until(tonumber(next_free[2]), NOW)
      end
    end
    return claim[LIMIT] <= 0 and -1 or 0
  end
  local state = key and look_bucket(claim[TABLE], key)
  local level = state and state.level or claim[START]
  local here = {level = math.min(level, claim[CAPACITY]), at = NOW, capacity = claim[CAPACITY], rate = claim[RATE]}
  if not state then here.level = level end
  return wait_until(available_at(here, claim[AMOUNT], NOW), NOW)
end

local levels, caches, waits, entries, bodies = {}, {}, {}, {}, {}
for at, tab in ipairs(INPUT[3]) do
  levels[at] = levels_of(tab[1], tab[2])
  local size = redis.call('HGET', name_of('cs', tab[1], ''), '')
  caches[at] = {redis.call('ZCARD', name_of('ci', tab[1], '')), tonumber(size) or 0}
end
for at, claim in ipairs(INPUT[4]) do waits[at] = wait_of(claim) end
for at, lookup in ipairs(INPUT[5]) do
  local entry, body = cached(lookup[1], lookup[2], NOW)
  entries[at] = entry or false
  if body then bodies[#bodies + 1] = body end
end
return {cmsgpack.pack({levels, caches, waits, entries}), unpack(bodies)}
