-- INPUT: {now or false, limits, lookup or false, lines}; claims are numbered from 1 through limits and lines.
-- Returns MessagePack of {taken, dry, short, wait, lines, entry or false}, and the body where there is an entry. A
-- number in `taken` is negative where the claim is kept under the overflow key.
local taken, dry, short, wait, granted, number = {}, {}, 0, 0, 0, 0

-- Takes the claim. Gives what undoes it, and the key; or nil, and when it could be taken.
local function take(claim)
  if claim[1] == 'b' then
    local key, state = bucket_of(claim, NOW)
    if fill(state, NOW) + SLACK < claim[AMOUNT] then return nil, available_at(state, claim[AMOUNT], NOW) end
    state.level = state.level - claim[AMOUNT]
    return function() state.level = state.level + claim[AMOUNT] end, key
  end
  local key, listed = place(claim, NOW)
  local name = name_of('s', claim[TABLE], key)
  local count = count_slots(name, NOW)
  if redis.call('ZSCORE', name, claim[ID]) then return function() end, key end
  if count >= claim[LIMIT] then return nil, slot_at(name, claim[LIMIT], count, NOW) end
  enter(name, claim[TABLE], listed, claim[ID], NOW + claim[TTL], NOW)
  return function() redis.call('ZREM', name, claim[ID]) end, key
end

-- All or nothing: what was taken before a claim that is short is put back.
local function take_all(group)
  local mine, worst, worst_at = {}, nil, nil
  for _, claim in ipairs(group) do
    number = number + 1
    local undo, at = take(claim)
    if undo then
      mine[#mine + 1] = {at == claim[KEY] and number or -number, undo}
    elseif claim[DRY] then
      dry[#dry + 1] = number
    elseif not worst or at > worst_at then
      worst, worst_at = number, at
    end
  end
  if not worst then
    for _, one in ipairs(mine) do taken[#taken + 1] = one[1] end
    return true
  end
  for _, one in ipairs(mine) do one[2]() end
  short, wait = worst, wait_until(worst_at, NOW)
  return false
end

local entry, body = false, nil
if take_all(INPUT[2]) then
  local lookup = INPUT[3]
  if lookup then
    entry, body = cached(lookup[1], lookup[2], NOW)
    local index = name_of('ci', lookup[1], '')
    if entry then
      local last, turn = next_turn(index)
      if last ~= lookup[2] then redis.call('ZADD', index, turn, lookup[2]) end
    elseif redis.call('ZSCORE', index, lookup[2]) then
      drop_cached(lookup[1], lookup[2])
    end
  end
  if not entry then
    for _, group in ipairs(INPUT[4]) do
      if not take_all(group) then break end
      granted = granted + 1
    end
  end
end
save_buckets()
local answer = cmsgpack.pack({taken, dry, short, wait, granted, entry or false})
if body then return {answer, body} end
return answer
