-- INPUT: {now or false, replica, life, ramps}; a ramp is {name, position, direction, age, command, version}.
-- Returns MessagePack of {whether the replica was known, number of replicas, ramps as they now are}.
local all = PREFIX .. ':replicas'
redis.call('ZREMRANGEBYSCORE', all, '-inf', digits(NOW))
local known = redis.call('ZSCORE', all, INPUT[2]) and true or false
redis.call('ZADD', all, digits(NOW + INPUT[3]), INPUT[2])
live_until(all, INPUT[3])

-- The higher version wins, of equal ones the higher position. Where two are equal in both and still not the same, the
-- one that is kept becomes a newer version, so that every replica adopts it.
local function share(ramp)
  local name = name_of('r', ramp[1], '')
  local kept = redis.call('GET', name)
  local mine = {ramp[2], ramp[3], NOW - ramp[4], ramp[5], ramp[6]}
  if kept then
    kept = cmsgpack.unpack(kept)
    if kept[5] == mine[5] and kept[1] == mine[1] then
      local apart = kept[2] ~= 0 and math.abs(kept[3] - mine[3]) > 1
      if kept[2] ~= mine[2] or kept[4] ~= mine[4] or apart then kept[5] = kept[5] + 1 end
      mine = kept
    elseif kept[5] > mine[5] or (kept[5] == mine[5] and kept[1] > mine[1]) then
      mine = kept
    end
  end
  redis.call('SET', name, cmsgpack.pack(mine), 'PX', millis(LONG))
  return {ramp[1], mine[1], mine[2], NOW - mine[3], mine[4], mine[5]}
end

local ramps = {}
for _, ramp in ipairs(INPUT[4]) do ramps[#ramps + 1] = share(ramp) end
return cmsgpack.pack({known, redis.call('ZCARD', all), ramps})
