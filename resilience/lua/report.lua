-- What did the call say about its provider?
--
-- ARGV  1 now or ''  2 failure_threshold  3 timeout (us)  4 half_open_max_calls
--       5 the permit's generation; -1: nobody knows (its process is gone), counts while closed only
--       6 the permit's token  7 probe 0|1  8 verdict success|failure|ignored|hold
--       9 hold (us)  10 reason of a hold  11 owner: task id or ''  12 the owner's attempt budget, 0 for none
-- out   {applied 0|1, state, attempts, retry_at (us, 0 for none), reason}
-- does  counts; closed -> open at the threshold or on a hold; half_open -> closed or open; frees the
--       probe's lease. A report from another generation, a lapsed lease or an operator's state only counts.
local now = clock()
local threshold, timeout, half_open_max = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local generation, token, probe, verdict = tonumber(ARGV[5]), ARGV[6], ARGV[7] == '1', ARGV[8]
local hold, hold_reason, owner, budget = tonumber(ARGV[9]), ARGV[10], ARGV[11], tonumber(ARGV[12])
local c = load(now)

redis.call('HINCRBY', CIRCUIT, 'verdict:' .. verdict, 1)
if verdict == 'failure' then
  redis.call('HSET', CIRCUIT, 'last_failure', now)
end

local current = generation == c.generation or (generation == -1 and c.state == 'closed')
if probe and current then
  local lease_ends = tonumber(redis.call('ZSCORE', PROBES, token) or 0)
  redis.call('ZREM', PROBES, token)
  current = lease_ends > now
end
local applied = current and c.forced == ''

if applied and verdict == 'success' then
  if c.state == 'half_open' then
    c.successes = c.successes + 1
    redis.call('HSET', CIRCUIT, 'successes', c.successes)
    if c.successes >= half_open_max then
      move(c, now, 'closed', '', 0)
    end
  elseif c.failures > 0 then
    c.failures = 0
    redis.call('HSET', CIRCUIT, 'failures', 0)
  end
elseif applied and verdict == 'failure' then
  c.failures = c.failures + 1
  redis.call('HSET', CIRCUIT, 'failures', c.failures)
  if c.state == 'half_open' or c.failures >= threshold then
    redis.call('HINCRBY', CIRCUIT, 'trips', 1)
    move(c, now, 'open', 'failures', now + timeout)
  end
elseif applied and verdict == 'hold' then
  move(c, now, 'open', hold_reason, now + hold)
end

-- A failed probe spends no attempt: it was sent to try the circuit, not on its own account. And while
-- the circuit is not closed the trouble is the service's: the task waits, whatever it has spent.
local attempts = 0
if owner ~= '' then
  local t = trail(owner)
  if verdict == 'failure' and not probe then
    t.attempts = t.attempts + 1
  end
  attempts = t.attempts
  local shut = shown(c) ~= 'closed' and shown(c) ~= 'disabled'
  if verdict == 'hold' or (verdict == 'failure' and (shut or attempts < budget)) then
    keep_trail(owner, t)
    redis.call('ZADD', RETURNING, now, owner)
  else
    -- The task ends here: a copy of it still in the lot is a duplicate delivery's.
    leave_lot(owner)
    forget_trail(owner)
  end
end
return { applied and 1 or 0, shown(c), attempts, c.retry_at, c.reason }
