-- Forget messages that are back in their queues, or have ended.
--
-- ARGV  1 now or ''  2 lease token  3 '' released, 'answered' by their leader, or the reason they were dropped for
--       4.. ids
-- out   how many were forgotten
-- does  only what still bears this lease: a task parked again meanwhile has cleared it and stays.
local now = clock()
local answered = ARGV[3] == 'answered'
local settled = 0
for i = 4, #ARGV do
  local id = ARGV[i]
  if redis.call('HGET', TOKENS, id) == ARGV[2] and leave_lot(id, answered and '' or ARGV[3]) then
    if ARGV[3] ~= '' then
      redis.call('ZREM', PROBES, reservation(id)) -- it ends here, and tries no circuit
      forget_trail(id)
    elseif redis.call('HEXISTS', TRAIL, id) == 1 then -- it has not ended meanwhile
      grow('ZADD', RETURNING, now, id)
    end
    settled = settled + 1
  end
end
drop_old_trails(now)
return settled
