-- What a circuit has been through.
--
-- ARGV  1 now or ''  2 most changes of state
-- out   {{now (us), state}, {{id, {field, value, ...}}, ...} the latest first,
--        {"time blocked success failure hold", ...} counts since the store began, the present ones last}
-- does  ends what has reached its time limit
local now = clock()
local state = shown(load(now))
local samples = redis.call('LRANGE', SAMPLES, 0, -1)
table.insert(samples, sample(now))
return { { now, state }, redis.call('XREVRANGE', TRANSITIONS, '+', '-', 'COUNT', ARGV[2]), samples }
