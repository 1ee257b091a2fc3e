-- These changes have been passed on.
--
-- ARGV  1 now or ''  2.. ids
-- out   nothing
redis.call('XACK', TRANSITIONS, 'listeners', unpack(ARGV, 2))
