-- INPUT: {now or false, replica, number, acknowledged, operations}. A batch takes effect once however often it comes:
-- its number is remembered until the replica says that it knows. Returns 1, or 0 where it had come before.
-- Operations: {'give', claim} with the amount in the claim, {'free', claim}, {'hold', claim} with the rest of its life as
-- ttl, whatever the limit.
local seen = PREFIX .. ':seen:' .. INPUT[2]
redis.call('ZREMRANGEBYSCORE', seen, '-inf', '(' .. digits(INPUT[4]))
if redis.call('ZADD', seen, 'NX', digits(INPUT[3]), digits(INPUT[3])) == 0 then return 0 end
redis.call('PEXPIRE', seen, millis(86400))
for _, operation in ipairs(INPUT[5]) do
  local what, claim = operation[1], operation[2]
  if what == 'give' then
    local _, state = bucket_of(claim, NOW)
    state.level = math.min(state.capacity, fill(state, NOW) + claim[AMOUNT])
  elseif what == 'free' then
    redis.call('ZREM', name_of('s', claim[TABLE], claim[KEY]), claim[ID])
  else
    -- Under exactly this key, as it will be freed there; the list may grow beyond its bound by what is in flight.
    local name, index = name_of('s', claim[TABLE], claim[KEY]), name_of('si', claim[TABLE], '')
    local listed = claim[MOST] > 1 or claim[KEY] ~= ''
    if listed and not redis.call('ZSCORE', index, claim[KEY]) then
      local _, turn = next_turn(index)
      redis.call('ZADD', index, turn, claim[KEY])
    end
    if not redis.call('ZSCORE', name, claim[ID]) then
      enter(name, claim[TABLE], listed, claim[ID], NOW + claim[TTL], NOW)
    end
  end
end
save_buckets()
return 1
