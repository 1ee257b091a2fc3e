-- May one call go ahead?
--
-- ARGV  1 now or ''  2 policy  3 permit token  4 owner: task id or ''
-- out   {granted 0|1, state, generation, probe 0|1, until or retry_at (us, 0 for none), reason}
-- does  counts allowed or blocked; open -> half_open when retry_at has come and nobody waits in the
--       lot; takes a probe's lease, or turns the owner's reservation into one
local now = clock()
local policy, token, owner = cjson.decode(ARGV[2]), ARGV[3], ARGV[4]
local c = load(now)

local function grant(probe, ends)
  redis.call('HINCRBY', CIRCUIT, 'allowed', 1)
  return { 1, shown(c), c.generation, probe, ends, '' }
end

local function refuse(retry_at, reason)
  redis.call('HINCRBY', CIRCUIT, 'blocked', 1)
  return { 0, shown(c), c.generation, 0, math.max(retry_at, now + 1), reason }
end

local function probe()
  redis.call('ZADD', PROBES, now + policy.lease, token)
  return grant(1, now + policy.lease)
end

if c.forced == 'open' then
  return refuse(c.forced_until, 'forced')
elseif c.forced ~= '' or c.state == 'closed' then
  return grant(0, 0)
end

if c.state == 'open' then
  if now < c.retry_at then
    return refuse(c.retry_at, c.reason)
  elseif waiting() > 0 then
    return refuse(now + RELEASE_PERIOD, c.reason)
  end
  move(c, now, 'half_open', c.reason, 0)
end

drop_lapsed_probes(now)
if c.successes >= policy.successes_needed then -- it was lowered meanwhile
  move(c, now, 'closed', '', 0)
  return grant(0, 0)
elseif owner ~= '' and redis.call('ZREM', PROBES, reservation(owner)) == 1 then
  return probe()
end
local in_flight = redis.call('ZCARD', PROBES)
if in_flight >= policy.half_open_max_calls or in_flight + c.successes >= policy.successes_needed then
  return refuse(tonumber(redis.call('ZRANGE', PROBES, 0, 0, 'WITHSCORES')[2]), c.reason)
elseif waiting() > 0 then
  return refuse(now + RELEASE_PERIOD, c.reason)
end
return probe()
