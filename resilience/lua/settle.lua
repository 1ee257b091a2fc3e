-- Forget messages that are back in their queues.
--
-- ARGV  1 now or ''  2 lease token  3.. ids
-- out   how many were forgotten
-- does  only what still bears this lease: a task parked again meanwhile has cleared it and stays.
--       Trails of tasks that came back more than a day ago and never ended are dropped.
local DAY = 86400 * SECOND
local now = clock()
local settled = 0
for i = 3, #ARGV do
  local id = ARGV[i]
  if redis.call('HGET', TOKENS, id) == ARGV[2] and leave_lot(id) then
    redis.call('ZADD', RETURNING, now, id)
    settled = settled + 1
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', RETURNING, '-inf', now - DAY, 'LIMIT', 0, 100)) do
  forget_trail(id)
end
return settled
