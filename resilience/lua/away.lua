-- The leaders whose answer others wait for: those that have ended, those nobody has heard of for long, and as many
-- others as are left to make so many, because not every end is told here.
--
-- ARGV  1 now or ''  2 most  3 how long an answer may take once a leader is away (us)
-- out   {{leader, verdict '' if it is not known, ended 0|1, late 0|1, id and message of the first that follows}, ...}
-- does  nothing; of many it tells any, so that one without an answer keeps nobody back. One whom nobody follows,
--       which somebody has damaged, is forgotten.
local before, most = clock() - tonumber(ARGV[3]), tonumber(ARGV[2])
local out, told = {}, {}

local function tell(leaders)
  for _, leader in ipairs(leaders) do
    if #out < most and not told[leader] then
      told[leader] = true
      local verdict, group = redis.call('HGET', ENDED, leader), group_of(leader)
      local late = tonumber(redis.call('ZSCORE', AWAY, leader) or 0) <= before
      local first = group and followers(group, 1)[1]
      if first then
        out[#out + 1] = { leader, verdict or '', verdict and 1 or 0, late and 1 or 0, first, text_of(first) }
      else
        redis.call('HDEL', ENDED, leader)
        redis.call('ZREM', AWAY, leader)
      end
    end
  end
end

tell(redis.call('HRANDFIELD', ENDED, most))
tell(redis.call('ZRANGEBYSCORE', AWAY, '-inf', before, 'LIMIT', 0, most))
tell(redis.call('ZRANDMEMBER', AWAY, most))
return out
