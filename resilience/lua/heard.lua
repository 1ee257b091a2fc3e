-- These changes have been passed on.
--
-- ARGV  1 now or ''  2 the number of the last of them, 0 where it has none  3.. ids
-- out   nothing
-- does  notes that number, by which a gap before the next is seen
redis.call('XACK', TRANSITIONS, 'listeners', unpack(ARGV, 3))
if tonumber(ARGV[2]) > tonumber(redis.call('HGET', CIRCUIT, 'heard') or 0) then
  redis.call('HSET', CIRCUIT, 'heard', ARGV[2])
end
