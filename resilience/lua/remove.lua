-- Forget a circuit.
--
-- ARGV  1 now or ''
-- out   how many messages wait there, with any it stays; -1 where nothing was known of it
-- does  drops all that is kept of it. Of one that is shut its era stays until the time it told is over: who knows that
--       it was shut takes this for no loss of memory then (see remind)
if redis.call('EXISTS', unpack(ALL)) == 0 then
  return -1
end
local now = clock()
local c = load(now)
local parked = redis.call('HLEN', MESSAGES)
if parked == 0 then
  redis.call('DEL', unpack(ALL))
  NOW = nil -- nothing is kept
  if c.state ~= 'closed' then
    redis.call('HSET', CIRCUIT, 'generation', c.generation + 1)
    redis.call('PEXPIRE', CIRCUIT, int((math.max(c.retry_at, now + REEXAMINE) - now) / 1000))
  end
end
return parked
