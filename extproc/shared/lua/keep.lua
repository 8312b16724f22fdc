-- INPUT: {now or false, table, key, most entries, most bytes, age, life, prompt tokens, completion tokens}; ARGV[3]: body.
local tab, key, entries, bytes, age, life = INPUT[2], INPUT[3], INPUT[4], INPUT[5], INPUT[6], INPUT[7]
local index, sizes = name_of('ci', tab, ''), name_of('cs', tab, '')
drop_cached(tab, key)
if #ARGV[3] > bytes or entries < 1 or life <= 0 then return 0 end
local packed = struct.pack('>dddd', NOW - age, NOW + life, INPUT[8], INPUT[9]) .. ARGV[3]
redis.call('SET', name_of('c', tab, key), packed, 'PX', millis(life))
local _, turn = next_turn(index)
redis.call('ZADD', index, turn, key)
redis.call('HSET', sizes, key, #ARGV[3])
local total = redis.call('HINCRBY', sizes, '', #ARGV[3])
while redis.call('ZCARD', index) > entries or total > bytes do
  drop_cached(tab, redis.call('ZRANGE', index, 0, 0)[1])
  total = tonumber(redis.call('HGET', sizes, ''))
end
live_until(index, life)
live_until(sizes, life)
return 1
