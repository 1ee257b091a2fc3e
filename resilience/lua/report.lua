-- What did the call say about its provider?
--
-- ARGV  1 now or ''  2 policy  3 key
--       4 the permit's generation; -1: nobody knows it, the process is gone; -3: as -1, it was stopped on purpose
--       5 the permit's token  6 probe 0|1  7 when it was granted (us, 0 if nobody knows)
--       8 verdict success|failure|ignored|hold  9 hold (us)  10 reason of a hold
--       11 owner: task id or ''  12 the owner's attempt budget, 0 for none; -1: it has asked for another
--       attempt itself, spends none and comes back
--       13 host  14 a random number from 0 to 1, for the jitter
--       15 whether the policies now and then know of nothing but failures in a row  0|1
--       16 how long the call took (us) where the store was not asked when it began; '' where it was
--       17 of a failure or hold: what was wrong, for people; '' where nobody says
--       18 the subject: what the owner's call was about; '' where nobody says  19 whether that is a guess  0|1
-- out   {applied 0|1, state, attempts, processes lost, retry_at (us, 0 for none), reason, generation,
--        now (us), how long to wait before anybody is told (us), whether it is the subject's own trouble 0|1}
-- does  counts; closed -> open by its rules or on a hold; half_open -> closed or open; frees the probe's
--       lease and the call's place, of a strict quota after its window. A report from another generation, a failure after its lease and one
--       under an operator's word only count.

-- How long calls took, by verdict: how many up to each bound and over the one before it, and the sum. The bounds are
-- DURATION_BOUNDS of circuit.py.
local function observe(took)
  local bound = 'inf'
  for _, most in ipairs({ 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000 }) do
    if took <= most then
      bound = string.format('%d', most)
      break
    end
  end
  redis.call('HINCRBY', KEYS[1], 'took:' .. ARGV[8] .. ':' .. bound, 1)
  redis.call('HINCRBY', KEYS[1], 'took:' .. ARGV[8] .. ':sum', took)
end

-- Of a lost process nobody knows.
local function observe_call(now)
  if ARGV[16] ~= '' then
    observe(tonumber(ARGV[16]))
  elseif ARGV[7] ~= '0' then
    observe(math.max(now - tonumber(ARGV[7]), 0))
  end
end

-- Nearly always: a success where nothing is to be set back, of a task that never waited.
if ARGV[8] == 'success' and ARGV[15] == '1' and ARGV[6] == '0' then
  local f = redis.call('HMGET', KEYS[1], 'state', 'forced', 'override', 'failures', 'generation', 'good_key')
  local closed = (not f[1] or f[1] == 'closed') and not (f[2] or f[3])
  local known = ARGV[11] ~= '' and (redis.call('HEXISTS', KEYS[1] .. ':lot:trail', ARGV[11]) == 1
    or redis.call('HEXISTS', KEYS[1] .. ':lot:messages', ARGV[11]) == 1)
  if closed and not known and (f[4] or '0') == '0' and (f[5] or '0') == ARGV[4] and (f[6] or '') == ARGV[3] then
    if redis.call('HINCRBY', KEYS[1], 'verdict:success', 1) == 1 and redis.call('HEXISTS', KEYS[1], 'kept') == 0 then
      redis.call('PEXPIRE', KEYS[1], 2592000000) -- as long as IDLE; renewed on the longer way
    end
    local time = redis.call('TIME')
    local now = tonumber(ARGV[1]) or tonumber(time[1]) * 1000000 + tonumber(time[2])
    observe_call(now)
    return { 1, 'closed', 0, 0, 0, '', tonumber(ARGV[4]), now, 0, 0 }
  end
end
-- prelude
local now = clock()
local key, generation, token, probe = ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6] == '1'
local granted, verdict, hold, hold_reason = tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[9]), ARGV[10]
local owner, budget, host, chance = ARGV[11], tonumber(ARGV[12]), ARGV[13], tonumber(ARGV[14])
local subject = owner ~= '' and ARGV[18] or ''
-- Who knows what failed says so of one subject, however many tasks meet it; a guess may be wrong.
local known = subject ~= '' and ARGV[19] ~= '1'
local c = load(now, key)
local policy = policy_for(c)

-- Exactly the policy's time, and what doubling at each failed recovery adds to it, less the jitter.
local function open_time()
  local longest = math.max(policy.timeout, policy.timeout_cap or 0)
  local added = math.min(longest, policy.timeout * 2 ^ math.min(c.reopened, 60)) - policy.timeout
  return policy.timeout + math.floor(added * (1 - (policy.jitter or 0) * chance))
end

local function trip(reason)
  redis.call('HINCRBY', CIRCUIT, 'trips', 1)
  if c.state == 'half_open' then
    c.reopened = c.reopened + 1
  end
  move(c, now, 'open', reason, now + open_time())
end

-- Counts this call in the window; the window lies in ten buckets, each by the number of its time.
local function tally(failed, slow)
  local width = math.floor(policy.window / 10)
  local bucket = math.floor(now / width)
  local sums = { calls = 0, failed = 0, slow = 0 }
  grow('HINCRBY', WINDOW, int(bucket) .. ':calls', 1)
  grow('HINCRBY', WINDOW, int(bucket) .. ':failed', failed and 1 or 0)
  grow('HINCRBY', WINDOW, int(bucket) .. ':slow', slow and 1 or 0)
  if failed or slow then -- of which subject, or by which task; '*' of more than one, or nobody knows
    local field, who = int(bucket) .. ':whose', subject ~= '' and (known and subject or owner) or '*'
    local before = redis.call('HGET', WINDOW, field) or who
    grow('HSET', WINDOW, field, before == who and who or '*')
  end
  local all = redis.call('HGETALL', WINDOW)
  for i = 1, #all, 2 do
    local number, name = string.match(all[i], '(%d+):(%a+)')
    -- A wider window, or a clock set back, makes older numbers the greater ones.
    if tonumber(number) > bucket - 10 and tonumber(number) <= bucket then
      if name == 'whose' then
        sums.whose = (sums.whose or all[i + 1]) == all[i + 1] and all[i + 1] or '*'
      else
        sums[name] = sums[name] + tonumber(all[i + 1])
      end
    else
      redis.call('HDEL', WINDOW, all[i])
    end
  end
  return sums
end

-- A failure in a recovery: no call for a second, then half the pace, and more time before it doubles again.
local function pull_back(doublings)
  c.ramp_doubles = math.min(c.ramp_doubles * 4, RAMP_SLOWEST)
  c.pulled_back = now
  c.ramp = math.max(now + SECOND - math.max(doublings - 1, 0) * c.ramp_doubles, 1)
  redis.call('HSET', CIRCUIT, 'ramp', int(c.ramp), 'ramp_doubles', int(c.ramp_doubles), 'pulled_back', int(now))
end

local function met_by_several()
  c.subject = '*'
  redis.call('HSET', CIRCUIT, 'subject', c.subject)
  redis.call('DEL', FAILING)
end

-- Have so many subjects failed since the last success as open the circuit? To end a recovery takes five: what has
-- waited longest may be odd more often than the rest.
local function subjects_enough()
  local most = c.state == 'half_open' and math.max(policy.threshold, 5) or policy.threshold
  return redis.call('HLEN', SUBJECTS) >= most
end

-- One more since the last success, and whose they all are: one subject's, while nothing else has failed and, where it
-- is a guess, as many different tasks as open the circuit, or two, have not met it; until then FAILING has these.
-- '*': not one subject's, or nobody knows.
local function count_failure()
  if c.failures == 0 and c.subject ~= '' then -- an earlier release knew nothing of it
    clear_failures(c)
  end
  if known then -- it counts once, and what its task tries again is no news: it may do so while all is quiet
    if redis.call('HEXISTS', SUBJECTS, subject) == 1 or trail(owner).attempts > 0 then
      return
    elseif not subjects_enough() then
      grow('HSET', SUBJECTS, subject, '')
    end
  end
  c.failures = c.failures + 1
  redis.call('HSET', CIRCUIT, 'failures', c.failures)
  if c.subject == '*' then
    return
  elseif subject ~= '' and (c.subject == '' or c.subject == subject or redis.call('HEXISTS', FAILING, owner) == 1) then
    c.subject = c.subject ~= '' and c.subject or subject
    redis.call('HSET', CIRCUIT, 'subject', c.subject)
    if known then
      return
    end
    grow('HSET', FAILING, owner, '')
    if redis.call('HLEN', FAILING) < math.max(policy.threshold, 2) then
      return
    end
  end
  met_by_several()
end

-- Can it be the service? What one task alone has met, however often it tried, is that task's trouble.
local function of_several()
  return c.subject == '*' or policy.threshold == 1
end

-- Have enough different hosts seen the trouble? This one has.
local function confirmed()
  if not policy.reporters then
    return true
  end
  grow('ZADD', REPORTERS, now, host)
  redis.call('ZREMRANGEBYSCORE', REPORTERS, '-inf', now - policy.window)
  return redis.call('ZCARD', REPORTERS) >= policy.reporters
end

-- Why a closed circuit opens now; nil: it stays.
local function tripped(failed, slow)
  local rated = policy.failure_rate or policy.slow_rate
  if rated then
    c.window = tally(failed, slow)
  end
  if not (failed or slow) or not confirmed() then
    return nil
  elseif failed and c.failures >= policy.threshold and of_several() then
    return 'failures'
  elseif not rated or c.window.calls < policy.minimum or c.window.whose ~= '*' then
    return nil
  elseif failed and policy.failure_rate and c.window.failed / c.window.calls >= policy.failure_rate then
    met_by_several()
    return 'failures'
  elseif slow and policy.slow_rate and c.window.slow / c.window.calls >= policy.slow_rate then
    return 'slow_calls'
  end
end

redis.call('HINCRBY', CIRCUIT, 'verdict:' .. verdict, 1)
observe_call(now)
if verdict == 'failure' then
  redis.call('HSET', CIRCUIT, 'last_failure', now)
end
if (verdict == 'failure' or verdict == 'hold') and ARGV[17] ~= '' then
  redis.call('HSET', CIRCUIT, 'last_error', ARGV[17])
end

-- A task whose process was lost does not know its permit: it is found by its owner, which is all behind the
-- first colon, whatever else the id has; the latest if it had several.
local function latest_of(set)
  local found
  for _, member in ipairs(redis.call('ZRANGE', set, 0, -1)) do
    local colon = string.find(member, ':', 1, true)
    if colon and string.sub(member, colon + 1) == owner and string.sub(member, 1, colon) ~= 'reserved:' then
      found = member
    end
  end
  return found
end

local died, stopped = generation == -1, generation == -3
local lost = died or stopped
if lost and owner ~= '' then
  local place = latest_of(CALLS)
  if place then
    redis.call('ZREM', CALLS, place)
  end
  local member = c.state == 'half_open' and latest_of(PROBES)
  if member then
    generation, token, probe = c.generation, member, true
  end
else
  redis.call('ZREM', CALLS, token)
  if policy.counted then -- it has arrived by now
    grow('ZADD', COUNTED, 'XX', now + policy.counted_for, token)
  end
end

local current = generation == c.generation and (probe or c.state == 'closed') or (lost and c.state == 'closed')
if probe and current then
  local lease_ends = tonumber(redis.call('ZSCORE', PROBES, token) or 0)
  redis.call('ZREM', PROBES, token)
  -- Past its lease a failure is no news, its place is another's; a success still is one.
  current = lease_ends > now or (lease_ends > 0 and verdict == 'success')
end
local applied = current and c.forced == ''
local answered = verdict == 'success' or verdict == 'failure'
local slow = answered and policy.slow and granted > 0 and now - granted > policy.slow

if applied and verdict == 'success' then
  if key ~= c.good_key then
    redis.call('HSET', CIRCUIT, 'good_key', key)
  end
  if c.doubted > 0 then
    redis.call('HDEL', CIRCUIT, 'doubted:' .. key)
  end
end
if applied and answered and c.state == 'half_open' then
  if verdict == 'failure' then
    count_failure()
    -- What one subject has met says nothing of the service: the next probe, of another, may close the circuit.
    if not known or subjects_enough() then
      trip('failures')
    end
  elseif slow then
    trip('slow_calls')
  else
    c.successes = c.successes + 1
    redis.call('HSET', CIRCUIT, 'successes', c.successes)
    redis.call('DEL', SUBJECTS)
    if c.successes >= policy.successes then
      recover(c, policy, now)
    end
  end
elseif applied and answered then
  local failed = verdict == 'failure'
  local _, doublings = ramp_step(c, policy, now)
  -- Of calls that were under way when the pace was last cut, a failure is no news.
  if not (failed and doublings and granted > 0 and granted <= c.pulled_back) then
    if failed then
      count_failure()
    elseif c.failures > 0 or c.subject ~= '' then -- an earlier release leaves the subject of what it sets back
      clear_failures(c)
    end
    if failed and doublings and not known then
      pull_back(doublings)
    end
    local why = tripped(failed, slow)
    if why then
      trip(why)
    end
  end
elseif applied and verdict == 'hold' then
  local of_key = hold_reason == 'auth' or hold_reason == 'turned_away'
  -- A refusal that says nothing of the key is the key's only where it is met again after its pause.
  local tried = now >= c.doubted or (c.state == 'half_open' and c.reason == hold_reason)
  if hold_reason == 'turned_away' and c.doubted > 0 and tried then
    hold_reason = 'auth'
  end
  -- One worker with a stale key must not cut off those whose key is accepted.
  local alone = of_key and c.good_key ~= '' and c.good_key ~= key
  if hold_reason == 'auth' then
    redis.call('HSET', CIRCUIT, 'refused:' .. key, now)
    redis.call('HDEL', CIRCUIT, 'doubted:' .. key)
    if not alone then
      redis.call('HDEL', CIRCUIT, 'good_key')
    end
  elseif hold_reason == 'turned_away' and c.doubted == 0 then
    redis.call('HSET', CIRCUIT, 'doubted:' .. key, int(now + hold))
  end
  if not alone then
    move(c, now, 'open', hold_reason, now + hold)
  end
end

-- A failed probe spends no attempt: it was sent to try the circuit, not on its own account. And while
-- the circuit is not closed the trouble is the service's: the task waits, whatever it has spent. Neither holds
-- where the trouble is known to be its subject's, or nothing else has failed but what is about the same.
local attempts, losses = 0, 0
local own = verdict == 'failure' and subject ~= '' and (known or c.subject == subject)
if owner ~= '' then
  local t, asked = trail(owner), budget == -1
  -- Of one that was stopped it may not be known which service it called: an attempt it was all the same.
  if (verdict == 'failure' or stopped) and (own or not probe) and not asked then
    t.attempts = t.attempts + 1
  end
  if died then
    t.losses = t.losses + 1
  end
  attempts, losses = t.attempts, t.losses
  local shut = shown(c) ~= 'closed' and shown(c) ~= 'disabled' and not own
  local trouble = lost or verdict == 'hold' or (verdict == 'failure' and (asked or shut or attempts < budget))
  if trouble or asked then
    -- What was let through and has asked for more waits anew.
    keep_trail(owner, trouble and t or { since = 0, order = 0, attempts = 0, losses = 0 })
    grow('ZADD', RETURNING, now, owner)
    drop_old_trails(now)
  else
    -- The task ends here: a copy of it still in the lot is a duplicate delivery's.
    leave_lot(owner)
    forget_trail(owner, verdict)
  end
end
-- Somebody may still take this circuit for well: who reports trouble returns when nobody does any more.
local wait = (verdict == 'failure' or verdict == 'hold') and unseen(c, now) or 0
return {
  applied and 1 or 0, shown(c), attempts, losses, c.retry_at, c.reason, c.generation, now, wait, own and 1 or 0,
}
