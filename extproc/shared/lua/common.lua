-- Joined in front of every script. ARGV: the prefix of all keys, and the input as MessagePack.
-- All times are seconds. A claim on a bucket is {'b', table, key, max_keys, dry, amount, capacity, rate, start}; one on
-- a slot is {'s', table, key, max_keys, dry, id, limit, ttl}.
local PREFIX = ARGV[1]
local OVERFLOW, PROBES, SLACK = '(other)', 8, 1e-6
local MARGIN, LONG, LONGEST = 60, 30 * 86400, 366 * 86400
local TABLE, KEY, MOST, DRY = 2, 3, 4, 5
local AMOUNT, CAPACITY, RATE, START = 6, 7, 8, 9
local ID, LIMIT, TTL = 6, 7, 8

-- Exact both ways, as redis.call writes numbers with fewer digits.
local function digits(number) return string.format('%.17g', number) end

-- The length keeps two pairs of table and key from meeting in one name.
local function name_of(kind, tab, key)
  return PREFIX .. ':' .. kind .. ':' .. #tab .. ':' .. tab .. ':' .. key
end

local function millis(seconds)
  return string.format('%.0f', (math.min(math.max(seconds, 0), LONGEST) + MARGIN) * 1000)
end

-- The server's clock without its steps back: those are made up for by what is kept as `ahead`.
local function time_of(given)
  if given then return given end
  local time = redis.call('TIME')
  local raw, name = time[1] + time[2] / 1e6, PREFIX .. ':clock'
  local kept = redis.call('GET', name)
  local last, ahead = raw, 0
  if kept then last, ahead = struct.unpack('>dd', kept) end
  if raw < last then ahead = ahead + last - raw end
  if not kept or raw < last or raw - last >= 0.01 then
    redis.call('SET', name, struct.pack('>dd', raw, ahead), 'PX', millis(LONGEST))
  end
  return raw + ahead
end

local function live_until(name, seconds)
  local wanted = millis(seconds)
  if redis.call('PTTL', name) < tonumber(wanted) then redis.call('PEXPIRE', name, wanted) end
end

local buckets, changed = {}, {}

local function load_bucket(tab, key)
  local name = name_of('b', tab, key)
  local state = buckets[name]
  if state == nil then
    local kept = redis.call('GET', name)
    state = false
    if kept then
      state = {name = name, tab = tab}
      state.level, state.at, state.capacity, state.rate, state.start = struct.unpack('>ddddd', kept)
    end
    buckets[name] = state
  end
  return state
end

local function fill(state, now)
  if now > state.at then
    state.level = math.min(state.capacity, state.level + state.rate * (now - state.at))
    state.at = now
  end
  return state.level
end

-- Seconds until nothing is lost by forgetting it. One that starts below its capacity is no longer like a fresh one.
local function life_of(state)
  if state.start < state.capacity then return LONG end
  if state.level >= state.capacity then return 0 end
  return state.rate > 0 and (state.capacity - state.level) / state.rate or LONGEST
end

local function save_buckets()
  for state in pairs(changed) do
    local life = life_of(state)
    local packed = struct.pack('>ddddd', state.level, state.at, state.capacity, state.rate, state.start)
    redis.call('SET', state.name, packed, 'PX', millis(life))
    if state.listed then live_until(name_of('bi', state.tab, ''), life) end
  end
end

local function count_slots(name, now)
  redis.call('ZREMRANGEBYSCORE', name, '-inf', digits(now))
  return redis.call('ZCARD', name)
end

local function is_idle(kind, tab, key, now)
  if kind == 's' then return count_slots(name_of('s', tab, key), now) == 0 end
  local state = load_bucket(tab, key)
  return not state or fill(state, now) >= state.capacity
end

local function next_turn(index)
  local last = redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')
  return last[1], digits((tonumber(last[2]) or 0) + 1)
end

local function make_room(kind, tab, index, now)
  for _ = 1, math.min(PROBES, redis.call('ZCARD', index)) do
    local oldest = redis.call('ZRANGE', index, 0, 0)[1]
    if is_idle(kind, tab, oldest, now) then
      redis.call('ZREM', index, oldest)
      local name = name_of(kind, tab, oldest)
      redis.call('DEL', name)
      if buckets[name] then changed[buckets[name]] = nil end
      buckets[name] = false
      return true
    end
    local _, turn = next_turn(index)
    redis.call('ZADD', index, turn, oldest)
  end
  return false
end

-- Under which key the claim is kept, and whether the table lists it: one key for all needs no list.
local function place(claim, now)
  local kind, tab, key, most = claim[1], claim[TABLE], claim[KEY], claim[MOST]
  if most <= 1 and key == '' then return key, false end
  local index = name_of(kind .. 'i', tab, '')
  if redis.call('ZSCORE', index, key) then
    local last, turn = next_turn(index)
    if last ~= key then redis.call('ZADD', index, turn, key) end
    return key, true
  end
  if redis.call('ZCARD', index) >= most and not make_room(kind, tab, index, now) then
    key = OVERFLOW
    if redis.call('ZSCORE', index, key) then return key, true end
  end
  local _, turn = next_turn(index)
  redis.call('ZADD', index, turn, key)
  return key, true
end

-- The bucket as the claim sees it. Where capacity or rate differ from before, the claim that asks wins.
local function bucket_of(claim, now)
  local key, listed = place(claim, now)
  local state = load_bucket(claim[TABLE], key)
  if not state then
    state = {name = name_of('b', claim[TABLE], key), tab = claim[TABLE], level = claim[START], at = now}
    buckets[state.name] = state
  elseif state.capacity ~= claim[CAPACITY] or state.rate ~= claim[RATE] then
    state.level = math.min(fill(state, now), claim[CAPACITY])
  end
  state.capacity, state.rate, state.start, state.listed = claim[CAPACITY], claim[RATE], claim[START], listed
  changed[state] = true
  return key, state
end

local function available_at(state, amount, now)
  local missing = amount - fill(state, now)
  if missing <= SLACK then return now end
  if amount > state.capacity + SLACK or state.rate <= 0 then return math.huge end
  return state.at + missing / state.rate
end

-- Of a ledger that has `count` entries.
local function slot_at(name, limit, count, now)
  if count < limit then return now end
  if limit <= 0 then return math.huge end
  return tonumber(redis.call('ZRANGE', name, 0, 0, 'WITHSCORES')[2])
end

local function enter(name, tab, listed, id, expires, now)
  redis.call('ZADD', name, digits(expires), id)
  live_until(name, expires - now)
  if listed then live_until(name_of('si', tab, ''), expires - now) end
end

-- Infinity has no place in a whole number of an answer: -1 is never.
local function wait_until(at, now) return at == math.huge and -1 or math.max(0, at - now) end

local function cached(tab, key, now)
  local kept = redis.call('GET', name_of('c', tab, key))
  if not kept then return nil end
  local stored, expires, prompt, completion, start = struct.unpack('>dddd', kept)
  if expires <= now then return nil end
  return {now - stored, expires - now, prompt, completion}, string.sub(kept, start)
end

local function drop_cached(tab, key)
  local sizes = name_of('cs', tab, '')
  local size = redis.call('HGET', sizes, key)
  if size then
    redis.call('HDEL', sizes, key)
    redis.call('HINCRBY', sizes, '', string.format('%d', -tonumber(size)))
  end
  redis.call('ZREM', name_of('ci', tab, ''), key)
  redis.call('DEL', name_of('c', tab, key))
end

local INPUT = cmsgpack.unpack(ARGV[2])
local NOW = time_of(INPUT[1])
