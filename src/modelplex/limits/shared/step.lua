-- One message of a gateway: what its requests reserve, what has ended, and that the gateway lives.
-- KEYS[1] is the prefix of all keys, ARGV[1] the message (messages.py), the result its reply.
--
-- PREFIX:nodes          sorted set: gateway -> when its lease ends, in ms
-- PREFIX:node:NODE      hash: seq, ends: the numbers of the last message and of the last ends
-- PREFIX:leases:NODE    hash: request -> "BUCKET|ACCOUNT|ACCOUNT", one for each running request
-- PREFIX:held:NODE      hash: agent -> "COUNT|ACCOUNT|ACCOUNT": reserved in advance
-- PREFIX:lapsed:NODE    hash: request -> "ACCOUNT=TOKENS,NANO|...": charged when the lease lapsed
-- PREFIX:account:NAME   hash: what an agent or team used and how much of it runs
-- PREFIX:r:NAME, :t:    hash: requests and tokens of the last minute, in buckets of BUCKET ms
--
-- Money is in integers of 1e-9 US dollars. The engine's clock is the only one.

local PREFIX, BUCKET, MINUTE, DAYS = KEYS[1], 500, 60000, 86400
local KEPT = 62 * DAYS       -- seconds for which an account without a budget in total is kept
local LAPSED = DAYS          -- seconds in which a gateway may come back and correct a charge
local REAPED = 200           -- leases of a dead gateway that one message ends
local message = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function date(days)  -- of days since 1970: https://howardhinnant.github.io/date_algorithms.html
  local z = days + 719468
  local era = math.floor(z / 146097)
  local of_era = z - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local shifted = math.floor((5 * of_year + 2) / 153)
  local month = shifted < 10 and shifted + 3 or shifted - 9
  local of_month = of_year - math.floor((153 * shifted + 2) / 5) + 1
  return string.format('%04d-%02d-%02d', year + era * 400 + (month <= 2 and 1 or 0), month, of_month)
end
local today = date(math.floor(now / 1000 / DAYS))

-- Accounts: read once, written once.

local FIELDS = {'dr', 'dt', 'du', 'mr', 'mt', 'mu', 'r', 't', 'u', 'run', 'held'}
local accounts, changed = {}, {}

local function account(name)
  local found = accounts[name]
  if found then return found end
  local key = PREFIX .. ':account:' .. name
  local values = redis.call('HMGET', key, 'day', unpack(FIELDS))
  found = {key = key, name = name, day = values[1] or '', is_new = not values[1]}
  for at, field in ipairs(FIELDS) do found[field] = tonumber(values[at + 1] or 0) end
  if today > found.day then  -- a clock that is set back gives no day again
    found.dr, found.dt, found.du = 0, 0, 0
    if string.sub(today, 1, 7) ~= string.sub(found.day, 1, 7) then found.mr, found.mt, found.mu = 0, 0, 0 end
    found.day, found.rolled = today, true
  end
  accounts[name] = found
  return found
end

local function change(name)
  local found = account(name)
  changed[name] = found
  return found
end

local function use(name, requests, tokens, nano)
  local found = change(name)
  for _, period in ipairs({'d', 'm', ''}) do
    found[period .. 'r'] = math.max(0, found[period .. 'r'] + requests)
    found[period .. 't'] = math.max(0, found[period .. 't'] + tokens)
    found[period .. 'u'] = math.max(0, found[period .. 'u'] + nano)
  end
end

local function run(name, count)
  local found = change(name)
  found.run = math.max(0, found.run + count)
end

local function write_accounts()
  for _, found in pairs(changed) do
    local values = {'day', found.day}
    for _, field in ipairs(FIELDS) do
      values[#values + 1] = field
      values[#values + 1] = string.format('%.0f', found[field])
    end
    redis.call('HSET', found.key, unpack(values))
    if found.keep then redis.call('PERSIST', found.key)
    elseif found.is_new or found.rolled then redis.call('EXPIRE', found.key, KEPT) end
  end
end

-- Windows of a minute.

local windows = {}

local function window(kind, name)
  local key = PREFIX .. ':' .. kind .. ':' .. name
  local found = windows[key]
  if found then return found end
  local values = redis.call('HMGET', key, 'sum', 'first')
  found = {key = key, sum = tonumber(values[1] or 0), first = tonumber(values[2] or nil)}
  found.oldest = math.floor((now - MINUTE) / BUCKET)
  if found.first and found.first < found.oldest then
    if found.oldest - found.first > 2 * MINUTE / BUCKET then
      redis.call('DEL', key)
      found.sum, found.first = 0, nil
    else
      local gone = {}
      for bucket = found.first, found.oldest - 1 do gone[#gone + 1] = string.format('%.0f', bucket) end
      for _, amount in ipairs(redis.call('HMGET', key, unpack(gone))) do
        found.sum = found.sum - tonumber(amount or 0)
      end
      redis.call('HDEL', key, unpack(gone))
      found.first = found.oldest
      redis.call('HSET', key, 'sum', string.format('%.0f', found.sum), 'first', string.format('%.0f', found.first))
    end
  end
  windows[key] = found
  return found
end

local function add(kind, name, amount, bucket)
  local found = window(kind, name)
  bucket = bucket or math.floor(now / BUCKET)
  if bucket < found.oldest then return end
  found.sum = found.sum + amount
  if not found.first or bucket < found.first then found.first = bucket end
  found.added = found.added or {}
  found.added[bucket] = (found.added[bucket] or 0) + amount
end

local function write_window(found)
  if not found.added then return end
  for bucket, amount in pairs(found.added) do
    redis.call('HINCRBY', found.key, string.format('%.0f', bucket), string.format('%.0f', amount))
  end
  found.added = nil
  redis.call('HSET', found.key, 'sum', string.format('%.0f', found.sum), 'first', string.format('%.0f', found.first))
  redis.call('PEXPIRE', found.key, MINUTE + 2 * BUCKET)
end

local function wait(kind, name, limit)  -- ms until the sum is below the limit
  local found = window(kind, name)
  local left = found.sum
  if left < limit then return 0 end
  local buckets = {}
  write_window(found)
  local all = redis.call('HGETALL', found.key)
  for at = 1, #all, 2 do
    local bucket = tonumber(all[at])
    if bucket then buckets[#buckets + 1] = {bucket, tonumber(all[at + 1])} end
  end
  table.sort(buckets, function(one, other) return one[1] < other[1] end)
  for _, each in ipairs(buckets) do
    left = left - each[2]
    if left < limit then return math.max(1, (each[1] + 1) * BUCKET + MINUTE - now) end
  end
  return MINUTE
end

-- Leases.

local function split(text)
  local parts = {}
  for part in string.gmatch(text, '[^|]+') do parts[#parts + 1] = part end
  return parts
end

local function average(of)
  if of.r == 0 then return 0, 0 end
  return math.ceil(of.t / of.r), math.ceil(of.u / of.r)
end

-- The request of a gateway that has not been heard of: its cost is unknown, the average is charged.
local function lapse(node, id, lease)
  local charges, parts = {}, split(lease)
  for at = 2, #parts do
    run(parts[at], -1)
    local tokens, nano = average(account(parts[at]))
    use(parts[at], 1, tokens, nano)
    charges[#charges + 1] = string.format('%s=%.0f,%.0f', parts[at], tokens, nano)
  end
  redis.call('HSET', PREFIX .. ':lapsed:' .. node, id, table.concat(charges, '|'))
end

local function take_back_charge(node, id)
  local key = PREFIX .. ':lapsed:' .. node
  local charged = redis.call('HGET', key, id)
  if not charged then return end
  redis.call('HDEL', key, id)
  for name, tokens, nano in string.gmatch(charged, '([^|=]+)=(%d+),(%d+)') do
    use(name, -1, -tonumber(tokens), -tonumber(nano))
  end
end

local function drop_held(node)
  local key = PREFIX .. ':held:' .. node
  local all = redis.call('HGETALL', key)
  for at = 2, #all, 2 do
    local parts = split(all[at])
    for each = 2, #parts do
      local found = change(parts[each])
      found.held = math.max(0, found.held - tonumber(parts[1]))
    end
  end
  redis.call('DEL', key)
end

local function reap()
  for _, node in ipairs(redis.call('ZRANGEBYSCORE', PREFIX .. ':nodes', '-inf', now, 'LIMIT', 0, 1)) do
    local key = PREFIX .. ':leases:' .. node
    local found = redis.call('HSCAN', key, '0', 'COUNT', REAPED)[2]
    for at = 1, #found, 2 do
      lapse(node, found[at], found[at + 1])
      redis.call('HDEL', key, found[at])
    end
    if #found > 0 then redis.call('EXPIRE', PREFIX .. ':lapsed:' .. node, LAPSED) end
    if redis.call('EXISTS', key) == 0 then
      drop_held(node)
      redis.call('ZREM', PREFIX .. ':nodes', node)
    end
  end
end

local function finish(node, ended)
  local id, names, requests, tokens, nano = ended[1], ended[2], ended[3], ended[4], ended[5]
  local key = PREFIX .. ':leases:' .. node
  local lease = redis.call('HGET', key, id)
  if lease then
    redis.call('HDEL', key, id)
    local parts = split(lease)
    for at = 2, #parts do run(parts[at], -1) end
    if requests == 0 and parts[1] ~= '-' then add('r', parts[2], -1, tonumber(parts[1])) end
  else
    take_back_charge(node, id)
  end
  if requests > 0 then
    for _, name in ipairs(names) do use(name, requests, tokens, nano) end
    if tokens > 0 and ended[6] then add('t', names[1], tokens) end
  end
end

-- A gateway that is new, or was lost: what it runs, and the most that it has seen of each account.
local function register(node)
  for _, seen in ipairs(message.seen) do
    local name, day, values = seen[1], seen[2], seen[3]
    local found = account(name)
    for at, field in ipairs({'dr', 'dt', 'du', 'mr', 'mt', 'mu', 'r', 't', 'u'}) do
      local holds = at > 6 or (at > 3 and string.sub(day, 1, 7) == string.sub(found.day, 1, 7)) or day == found.day
      if holds and values[at] > found[field] then
        change(name)[field] = values[at]
      end
    end
  end
  if not message.first then return end
  local key, live = PREFIX .. ':leases:' .. node, {}
  for _, each in ipairs(message.live) do live[each[1]] = each[2] end
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    if live[all[at]] then live[all[at]] = nil
    else
      redis.call('HDEL', key, all[at])
      local parts = split(all[at + 1])
      for each = 2, #parts do run(parts[each], -1) end
    end
  end
  for id, names in pairs(live) do
    take_back_charge(node, id)
    for _, name in ipairs(names) do run(name, 1) end
    redis.call('HSET', key, id, '-|' .. table.concat(names, '|'))
  end
  drop_held(node)
end

-- Limits. An account of the message is {name, nano or -1, tokens or -1, period, concurrent or -1,
-- requests a minute or -1, tokens a minute or -1}.

local function number(value) return string.format('%.0f', value) end

local function refusal(wanted)
  for _, limits in ipairs(wanted) do
    local of, period = account(limits[1]), limits[4]
    for _, unit in ipairs({{limits[2], 'u'}, {limits[3], 't'}}) do
      if unit[1] >= 0 and of[period .. unit[2]] >= unit[1] then return {'budget', limits[1]} end
    end
    local busy = of.run + of.held
    if busy > 0 and of.r > 0 then
      for _, unit in ipairs({{limits[2], 'u'}, {limits[3], 't'}}) do
        if unit[1] >= 0 and of[period .. unit[2]] + busy * of[unit[2]] / of.r >= unit[1] then
          return {'reserved', limits[1], number(busy)}
        end
      end
    end
  end
  for _, limits in ipairs(wanted) do
    local of = account(limits[1])
    if limits[5] >= 0 and of.run + of.held >= limits[5] then
      return {'concurrent', limits[1], number(of.run + of.held)}
    end
    for _, rate in ipairs({{limits[6], 'r', of.held}, {limits[7], 't', 0}}) do
      if rate[1] >= 0 then
        local left = math.max(1, rate[1] - rate[3])
        local ms = wait(rate[2], limits[1], left)
        if ms > 0 then return {'rate', limits[1], rate[2], number(window(rate[2], limits[1]).sum), number(ms)} end
      end
    end
  end
end

local function reserve(node, id, wanted)
  local key = PREFIX .. ':leases:' .. node
  if redis.call('HEXISTS', key, id) == 1 then return {'ok'} end
  local refused = refusal(wanted)
  if refused then return refused end
  local bucket, names = '-', {}
  for _, limits in ipairs(wanted) do
    names[#names + 1] = limits[1]
    run(limits[1], 1)
    if limits[4] == '' and (limits[2] >= 0 or limits[3] >= 0) then accounts[limits[1]].keep = true end
    if limits[6] >= 0 then
      add('r', limits[1], 1)
      bucket = number(math.floor(now / BUCKET))
    end
  end
  redis.call('HSET', key, id, bucket .. '|' .. table.concat(names, '|'))
  return {'ok'}
end

-- Whether one more may be reserved in advance: at most a tenth of each limit is.
local function may_hold(wanted)
  for _, limits in ipairs(wanted) do
    local of, period = account(limits[1]), limits[4]
    local held = of.held + 1
    local tokens, nano = average(of)
    for _, limit in ipairs({{limits[2], 'u', nano}, {limits[3], 't', tokens}}) do
      if limit[1] >= 0 and (of.r == 0 or held * limit[3] > (limit[1] - of[period .. limit[2]]) / 10) then return false end
    end
    if limits[5] >= 0 and (held > limits[5] / 10 or of.run + held > limits[5]) then return false end
    if limits[6] >= 0 and (held > limits[6] / 10 or window('r', limits[1]).sum + held > limits[6]) then return false end
    if limits[7] >= 0 and held * tokens > limits[7] / 10 then return false end
  end
  return true
end

local function hold(node, wanted, count)
  local key, name = PREFIX .. ':held:' .. node, wanted[1][1]
  local before = redis.call('HGET', key, name)
  local had = before and tonumber(split(before)[1]) or 0
  local has, names = had, {}
  for _, limits in ipairs(wanted) do names[#names + 1] = limits[1] end
  while has > count do
    for _, each in ipairs(names) do change(each).held = math.max(0, account(each).held - 1) end
    has = has - 1
  end
  while has < count and may_hold(wanted) do
    for _, each in ipairs(names) do change(each).held = account(each).held + 1 end
    has = has + 1
  end
  if has == 0 then redis.call('HDEL', key, name)
  else redis.call('HSET', key, name, number(has) .. '|' .. table.concat(names, '|')) end
  return has
end

-- The message.

local node = message.node
local numbers = redis.call('HMGET', PREFIX .. ':node:' .. node, 'seq', 'ends')
if tonumber(numbers[1] or 0) >= message.seq then return cjson.encode({state = 'old'}) end
reap()
if not message.first and not redis.call('ZSCORE', PREFIX .. ':nodes', node) then
  write_accounts()
  return cjson.encode({state = 'unknown'})
end
local ends = tonumber(numbers[2] or 0)
if message.ends_seq > ends then
  for _, ended in ipairs(message.ends) do finish(node, ended) end
  ends = message.ends_seq
end
register(node)
local outcomes, held = {}, {}
for at, each in ipairs(message.reserve) do outcomes[at] = reserve(node, each[1], each[2]) end
for at, each in ipairs(message.hold) do held[at] = hold(node, each[1], each[2]) end
for _, name in ipairs(message.read) do account(name) end
write_accounts()
for _, found in pairs(windows) do write_window(found) end
redis.call('HSET', PREFIX .. ':node:' .. node, 'seq', number(message.seq), 'ends', number(ends))
redis.call('EXPIRE', PREFIX .. ':node:' .. node, KEPT)
if message.leave then  -- what it still has is ended by the next message of another
  redis.call('ZADD', PREFIX .. ':nodes', now, node)
  reap()
  write_accounts()
else
  redis.call('ZADD', PREFIX .. ':nodes', now + message.lease, node)
end
local totals = {}
for name, of in pairs(accounts) do
  local values = {}
  for at, field in ipairs(FIELDS) do values[at] = number(of[field]) end
  totals[#totals + 1] = {name, of.day, values}
end
return cjson.encode({
  state = 'ok', now = number(now), reserve = outcomes, held = held, totals = totals,
  nodes = redis.call('ZCARD', PREFIX .. ':nodes'),
})
