-- May one call go ahead?
--
-- ARGV  1 now or ''  2 policy  3 key  4 permit token  5 owner: task id or ''
--       6 whether the policy knows of nothing but failures in a row  0|1
-- out   {granted 0|1, state, generation, probe 0|1, until or retry_at (us, 0 for none), reason,
--        attempts the owner has spent, now (us; the call's turn where that is later), override, how long
--        the call has to wait for its turn (us), an operator's word {open|closed|disabled, until (us), note,
--        actor} or {}}
-- does  counts allowed or blocked; open -> half_open when retry_at has come and nobody waits in the
--       lot, or no worker lets them go; takes a probe's lease, or turns the owner's reservation into one; takes a call's place
--       and its token of the quota

-- Nearly always: a closed circuit that nobody has touched, and a caller nothing is known of.
if ARGV[6] == '1' then
  local f = redis.call('HMGET', KEYS[1], 'state', 'forced', 'override', 'refused:' .. ARGV[3], 'doubted:' .. ARGV[3], 'ramp', 'generation')
  local closed = (not f[1] or f[1] == 'closed') and not (f[2] or f[3] or f[4] or f[5] or f[6])
  if closed and (ARGV[5] == '' or redis.call('HEXISTS', KEYS[1] .. ':lot:trail', ARGV[5]) == 0) then
    if redis.call('HINCRBY', KEYS[1], 'allowed', 1) == 1 and redis.call('HEXISTS', KEYS[1], 'kept') == 0 then
      redis.call('PEXPIRE', KEYS[1], 2592000000) -- as long as IDLE; renewed on the longer way
    end
    local time = redis.call('TIME')
    local now = tonumber(ARGV[1]) or tonumber(time[1]) * 1000000 + tonumber(time[2])
    return { 1, 'closed', tonumber(f[7] or 0), 0, 0, '', 0, now, '', 0, {} }
  end
end
-- prelude
local now = clock()
local key, token, owner = ARGV[3], ARGV[4], ARGV[5]
local c = load(now, key)
local policy = policy_for(c)
local attempts = owner ~= '' and trail(owner).attempts or 0

local function word()
  return c.forced ~= '' and { c.forced, c.forced_until, unpack(redis.call('HMGET', CIRCUIT, 'note', 'actor')) } or {}
end

local function grant(probe, ends, generation, wait)
  redis.call('HINCRBY', CIRCUIT, 'allowed', 1)
  -- Under an operator's word calls are let through and change nothing, also when it has ended meanwhile.
  generation = c.forced == '' and (generation or c.generation) or -2
  return { 1, shown(c), generation, probe, ends, '', attempts, now + (wait or 0), c.override, wait or 0, word() }
end

local function refuse(retry_at, reason)
  if policy.observe and c.forced ~= 'open' then
    redis.call('HINCRBY', CIRCUIT, 'would_block', 1)
    return grant(0, 0, c.state ~= 'closed' and -2 or nil)
  end
  redis.call('HINCRBY', CIRCUIT, 'blocked', 1)
  return { 0, shown(c), c.generation, 0, math.max(retry_at, now + 1), reason, attempts, now, c.override, 0, word() }
end

-- Takes what the call needs of the service's limits; returns how long it has to wait for its turn.
local function take_room()
  if policy.concurrent then
    grow('ZADD', CALLS, now + policy.lease, token)
  end
  local interval, burst = pace(c, policy, now)
  if not interval then
    return 0
  end
  local tat = math.max(c.tat, now)
  redis.call('HSET', CIRCUIT, 'tat', tat + interval)
  local turn = math.max(tat - (burst - 1) * interval, now)
  if policy.counted then
    turn = math.max(turn, countable_at(policy))
    redis.call('ZREMRANGEBYSCORE', COUNTED, '-inf', now)
    grow('ZADD', COUNTED, turn + policy.lease + policy.counted_for, token)
  end
  return turn - now
end

local function pass()
  if limited(c, policy) then
    local place = owner ~= '' and place_of(owner, now)
    local most, when, why = room(c, policy, now, place and AHEAD or 0)
    if most < 1 then
      return refuse(when, why)
    end
    if place then
      redis.call('ZREM', PROBES, place)
    elseif most <= in_flight(now) or lot_first(c, now, owner) then -- what has waited goes first
      local whose = policy.interval and 'quota' or policy.concurrent and 'concurrency' or 'recovering'
      return refuse(now + RELEASE_PERIOD, c.ramp > 0 and 'recovering' or whose)
    end
    return grant(0, 0, nil, take_room())
  end
  return grant(0, 0)
end

local way, when, why = stance(c, now)
if way == 'refuse' then
  return refuse(when, why)
elseif way == 'pass' then
  return pass()
end

if c.state == 'open' then
  if lot_first(c, now, owner) then
    return refuse(now + RELEASE_PERIOD, c.reason)
  end
  move(c, now, 'half_open', c.reason, 0)
end
if c.successes >= policy.successes then -- it was lowered meanwhile
  recover(c, policy, now)
  return pass()
end

local place = owner ~= '' and place_of(owner, now)
if not place then
  local busy = in_flight(now)
  if busy >= policy.probes or busy + c.successes >= policy.successes then
    local first = redis.call('ZRANGEBYSCORE', PROBES, '(' .. int(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    return refuse(tonumber(first[2]), c.reason)
  elseif lot_first(c, now, owner) then
    return refuse(now + RELEASE_PERIOD, c.reason)
  end
end
local most
most, when, why = room(c, policy, now, place and AHEAD or 0)
if most < 1 then
  return refuse(when, why)
end
local wait = take_room()
if place then
  redis.call('ZREM', PROBES, place)
end
local ends = now + wait + policy.probe_lease
grow('ZADD', PROBES, ends, token)
return grant(1, ends, nil, wait)
