-- May one call go ahead?
--
-- ARGV  1 now or ''  2 policy  3 permit token  4 owner: task id or ''
-- out   {granted 0|1, state, generation, probe 0|1, until or retry_at (us, 0 for none), reason,
--        attempts the owner has spent}
-- does  counts allowed or blocked; open -> half_open when retry_at has come and nobody waits in the
--       lot; takes a probe's lease, or turns the owner's reservation into one
local now = clock()
local policy, token, owner = cjson.decode(ARGV[2]), ARGV[3], ARGV[4]
local c = load(now)
local attempts = owner ~= '' and trail(owner).attempts or 0

local function grant(probe, ends)
  redis.call('HINCRBY', CIRCUIT, 'allowed', 1)
  -- Under an operator's word calls are let through and change nothing, also when it has ended meanwhile.
  local generation = c.forced == '' and c.generation or -2
  return { 1, shown(c), generation, probe, ends, '', attempts }
end

local function refuse(retry_at, reason)
  redis.call('HINCRBY', CIRCUIT, 'blocked', 1)
  return { 0, shown(c), c.generation, 0, math.max(retry_at, now + 1), reason, attempts }
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

if c.successes >= policy.successes_needed then -- it was lowered meanwhile
  move(c, now, 'closed', '', 0)
  return grant(0, 0)
end
local place = owner ~= '' and place_of(owner, now)
if place then
  redis.call('ZREM', PROBES, place)
  return probe()
end
local busy = in_flight(now)
if busy >= policy.half_open_max_calls or busy + c.successes >= policy.successes_needed then
  local first = redis.call('ZRANGEBYSCORE', PROBES, '(' .. int(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return refuse(tonumber(first[2]), c.reason)
elseif waiting() > 0 then
  return refuse(now + RELEASE_PERIOD, c.reason)
end
return probe()
