-- Lease messages whose time is over, whatever the circuit says.
--
-- ARGV  1 now or ''  2 policy  3 lease token  4 most messages  5 lease (us)
-- out   {expired|overdue, id, message, expired|overdue, id, message, ...}
-- does  takes them out of their lanes, so that no probe is spent on them: what has expired, and what has
--       waited longer than anything may, by the caller's clock too: either may be wrong, and this is for good
local now = clock()
local c = load(now)
local policy, most = policy_for(c), tonumber(ARGV[4])
local out = {}

local function lease_those(set, before, why)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', set, '-inf', before, 'LIMIT', 0, most - #out / 3)) do
    if not redis.call('ZSCORE', LEASES, id) then
      leave_lanes(id)
      lease(id, ARGV[3], now + tonumber(ARGV[5]))
      out[#out + 1] = why
      out[#out + 1] = id
      out[#out + 1] = text_of(id)
    end
  end
end

local agreed = math.min(now, THEIRS)
lease_those(EXPIRES, agreed, 'expired')
lease_those(SINCE, agreed - policy.age, 'overdue')
return out
