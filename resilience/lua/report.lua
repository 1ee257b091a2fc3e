-- What did the call say about its provider?
--
-- ARGV  1 now or ''  2 policy
--       3 the permit's generation; -1: nobody knows it, the process is gone
--       4 the permit's token  5 probe 0|1  6 verdict success|failure|ignored|hold
--       7 hold (us)  8 reason of a hold  9 owner: task id or ''  10 the owner's attempt budget, 0 for none
--       11 a random number from 0 to 1, for the jitter
-- out   {applied 0|1, state, attempts, processes lost, retry_at (us, 0 for none), reason}
-- does  counts; closed -> open at the threshold or on a hold; half_open -> closed or open; frees the
--       probe's lease. A report from another generation, a lapsed lease or an operator's state only counts.
local now = clock()
local policy = cjson.decode(ARGV[2])
local generation, token, probe, verdict = tonumber(ARGV[3]), ARGV[4], ARGV[5] == '1', ARGV[6]
local hold, hold_reason, owner, budget = tonumber(ARGV[7]), ARGV[8], ARGV[9], tonumber(ARGV[10])
local c = load(now)

-- Exactly the policy's time, unless it doubles at each failed recovery or has jitter.
local function open_time()
  local time = policy.timeout
  if policy.timeout_cap > 0 then
    time = math.min(policy.timeout_cap, time * 2 ^ math.min(c.reopened, 60))
  end
  return math.floor(time * (1 + policy.jitter * tonumber(ARGV[11])))
end

redis.call('HINCRBY', CIRCUIT, 'verdict:' .. verdict, 1)
if verdict == 'failure' then
  redis.call('HSET', CIRCUIT, 'last_failure', now)
end

-- A task whose process was lost does not know its permit: while half-open it is found by its owner,
-- the latest if it had several.
local lost = generation == -1
if lost and owner ~= '' and c.state == 'half_open' then
  for _, member in ipairs(redis.call('ZRANGE', PROBES, 0, -1)) do
    if string.sub(member, 1, #owner + 1) == owner .. ':' then
      generation, token, probe = c.generation, member, true
    end
  end
end

local current = generation == c.generation or (lost and c.state == 'closed')
if probe and current then
  local lease_ends = tonumber(redis.call('ZSCORE', PROBES, token) or 0)
  redis.call('ZREM', PROBES, token)
  -- Past its lease a failure is no news, its place is another's; a success still is one.
  current = lease_ends > now or (lease_ends > 0 and verdict == 'success')
end
local applied = current and c.forced == ''

if applied and verdict == 'success' then
  if c.state == 'half_open' then
    c.successes = c.successes + 1
    redis.call('HSET', CIRCUIT, 'successes', c.successes)
    if c.successes >= policy.successes_needed then
      move(c, now, 'closed', '', 0)
    end
  elseif c.failures > 0 then
    c.failures = 0
    redis.call('HSET', CIRCUIT, 'failures', 0)
  end
elseif applied and verdict == 'failure' then
  c.failures = c.failures + 1
  redis.call('HSET', CIRCUIT, 'failures', c.failures)
  if c.state == 'half_open' or c.failures >= policy.failure_threshold then
    redis.call('HINCRBY', CIRCUIT, 'trips', 1)
    if c.state == 'half_open' then
      c.reopened = c.reopened + 1
    end
    move(c, now, 'open', 'failures', now + open_time())
  end
elseif applied and verdict == 'hold' then
  move(c, now, 'open', hold_reason, now + hold)
end

-- A failed probe spends no attempt: it was sent to try the circuit, not on its own account. And while
-- the circuit is not closed the trouble is the service's: the task waits, whatever it has spent.
local attempts, losses = 0, 0
if owner ~= '' then
  local t = trail(owner)
  if verdict == 'failure' and not probe then
    t.attempts = t.attempts + 1
  end
  if lost then
    t.losses = t.losses + 1
  end
  attempts, losses = t.attempts, t.losses
  local shut = shown(c) ~= 'closed' and shown(c) ~= 'disabled'
  if lost or verdict == 'hold' or (verdict == 'failure' and (shut or attempts < budget)) then
    keep_trail(owner, t)
    redis.call('ZADD', RETURNING, now, owner)
    drop_old_trails(now)
  else
    -- The task ends here: a copy of it still in the lot is a duplicate delivery's.
    leave_lot(owner)
    forget_trail(owner)
  end
end
return { applied and 1 or 0, shown(c), attempts, losses, c.retry_at, c.reason }
