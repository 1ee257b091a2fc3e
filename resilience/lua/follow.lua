-- Lease those that follow these leaders, to give them their answer.
--
-- ARGV  1 now or ''  2 lease token  3 most messages  4 lease (us)  5.. leaders
-- out   {leader, id, message, leader, id, message, ...}
-- does  only what follows now and nobody has leased; the lease keeps other releasers from it
local now = clock()
local most = tonumber(ARGV[3])
local out = {}
for i = 5, #ARGV do
  local group, member = group_of(ARGV[i])
  if group and not member then
    for _, id in ipairs(followers(group, most + redis.call('ZCARD', LEASES))) do
      if #out / 3 < most and not redis.call('ZSCORE', LEASES, id) then
        lease(id, ARGV[2], now + tonumber(ARGV[4]))
        out[#out + 1] = ARGV[i]
        out[#out + 1] = id
        out[#out + 1] = text_of(id)
      end
    end
  end
end
return out
