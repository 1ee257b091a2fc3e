-- Leaders without an answer give their place to the first that follows.
--
-- ARGV  1 now or ''  2 how long an answer may take once a leader is away (us), 0: they will have none  3.. leaders
-- out   how many did
-- does  only what leads still, is away, and has not been heard of since it was looked at
local before = clock() - tonumber(ARGV[2])
local succeeded = 0
for i = 3, #ARGV do
  local since = redis.call('ZSCORE', AWAY, ARGV[i])
  if since and tonumber(since) <= before then
    succeed(group_of(ARGV[i]))
    succeeded = succeeded + 1
  end
end
return succeeded
