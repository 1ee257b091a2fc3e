-- A task ended with another service's answer.
--
-- ARGV  1 now or ''  2 the task's id
-- out   nothing
-- does  gives its reservation back and drops what is kept of it here
clock()
redis.call('ZREM', PROBES, reservation(ARGV[2]))
leave_lot(ARGV[2])
forget_trail(ARGV[2])
