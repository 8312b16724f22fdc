-- INPUT: {now or false, replica}.
redis.call('ZREM', PREFIX .. ':replicas', INPUT[2])
redis.call('DEL', PREFIX .. ':seen:' .. INPUT[2])
return 1
