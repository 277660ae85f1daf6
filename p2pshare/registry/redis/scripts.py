"""Lua scripts that change or read one name, or one other thing, in one atomic step in Redis; `keys.py` has the keys.

Theory of operation
-------------------
Several processes, and several registries, may claim the same name at the same moment. Redis runs one script at a time,
so each claim is one script: it reads the owner, decides, and writes. Nothing can happen in between, and no lock is
needed.

* *One slot.* All keys of a name have the same hash tag, so a cluster would keep them on one server. A script touches
  one name only; whatever concerns all names is in the index (`index.py`).
* *A lost reply.* If the connection breaks after a script was sent, the caller does not know whether it ran. So every
  script may run twice: a claim by the owner's key renews, a heartbeat or a release with a number that was used before
  is rejected. The client repeats its request, and the reply then says what is true.
* *Leases.* All times are those of Redis, in ms, so the clocks of registries do not matter. Keys expire by themselves. A
  name that is not renewed is free at the moment its lease ends, even if no registry runs.
* *Presence* lasts from `since` until `until`. A claim or heartbeat of the owner before that end prolongs it. One after
  it, or a claim of another owner, begins a new one.
* *A claim's number* is the time of Redis, or more than the last one. Receipts bear it, so it grows even if the store
  has forgotten the last one.
* *Recovery after a loss.* An owner under an older mark of the store does not count: a claim from before the loss wrote
  it after the loss. Under a newer mark, the script must not decide, and the claim enters the index again. While the
  store recovers, a name without an owner is given only for a receipt. A receipt with a greater number replaces an owner
  whose claim is older. A record that was signed before the loss is stale: nobody knows any more whether it was used.

Conventions: numbers are formatted by `%.0f`, since Lua would round those above 10^14. A reply is one bulk string, since
the library parses an array at one element per turn of the reactor.
"""


def timed(lua: str) -> str:
    """Return a script that begins with the time of Redis, `now` in ms, and `int`, which formats a number."""
    return f"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function int(number) return string.format('%.0f', number) end
{lua}"""


def _present(lua: str) -> str:
    """Return a script with `unbroken`: since when a presence that ends at `ends` lasts, or nil if it has ended."""
    return timed(
        """
local function unbroken(ends, since) return ends and tonumber(ends) > now and tonumber(since) or nil end
"""
        + lua
    )


# KEYS: classic, owner. ARGV: address, proof, lease in ms, 1 while recovering.
# "=" as proof marks the address of an owned name; no registration has that proof.
CLAIM = timed("""
local address, proof, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('EXISTS', KEYS[2]) == 1 then return 'taken' end
local held = redis.call('GET', KEYS[1])
local held_address, held_proof = string.match(held or '', '^(%S+ %S+) (%S+)$')
if held_proof == '=' then held = false end
if held then
  if held_proof ~= proof then return 'taken' end
  if proof == '-' then
    if held_address ~= address or lease == 0 then return 'taken' end
    lease = math.max(lease, redis.call('PTTL', KEYS[1]))
  end
end
if lease == 0 then
  redis.call('DEL', KEYS[1])
  return 'released ' .. int(now) .. ' 0'
end
if not held and ARGV[4] == '1' then return 'recovering' end
redis.call('SET', KEYS[1], address .. ' ' .. proof, 'PX', lease)
return (held and 'renewed ' or 'claimed ') .. int(now) .. ' ' .. int(now + lease)
""")

# The former owners of a name: "CLAIM SEEN" of the last one, then "KEY SEQ" of each, the newest first.
_FORMER = _present("""
local former = redis.call('GET', KEYS[3]) or '0 0'
local function former_seq(key) return tonumber(string.match(former, '\\n' .. key .. ' (%d+)') or 0) end
local function remember(key, seq, claim, seen, most, life)
  local lines = {int(claim) .. ' ' .. int(seen), key .. ' ' .. int(math.max(seq, former_seq(key)))}
  for other, its_seq in string.gmatch(former, '\\n(%S+) (%d+)') do
    if other ~= key and #lines <= tonumber(most) then lines[#lines + 1] = other .. ' ' .. its_seq end
  end
  redis.call('SET', KEYS[3], table.concat(lines, '\\n'), 'PX', life)
end
""")


def _with_former(lua: str) -> str:
    return _FORMER + lua


# KEYS: owner, signed, former, classic, location. ARGV: 1 key, 2 seq, 3 record, 4 session, 5 address or nothing, 6 old
# key or nothing, 7 rotation or nothing, 8 its iat or 0, 9 number of the receipt or 0, 10 1 if the name may be new, 11 1
# while recovering, 12 and 13 leases of presence and ownership in ms, 14 number of rotations to keep, 15 number of
# former owners to keep, 16 and for how many ms, 17 and 18 time in ms and id of the mark under which the name entered
# the index, 19 1 if that mark followed a loss, 20 location or nothing, 21 and for how many ms to keep it.
CLAIM_OWNED = _with_former("""
local key, seq, record, session, address = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local old_key, rotation, iat, receipt = ARGV[6], ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local recovering = ARGV[11] == '1'
local held = redis.call('HMGET', KEYS[1], 'key', 'seq', 'claim', 'seen', 'rotated', 'mark', 'until', 'since')
local born, mark = tonumber(ARGV[17]), ARGV[17] .. ' ' .. ARGV[18]
if held[6] and held[6] ~= mark then
  if tonumber(string.match(held[6], '^%d+')) > born then return 'moved' end
  held = {}
end
local owner, held_seq, claim, seen = held[1], tonumber(held[2]), tonumber(held[3]), tonumber(held[4])
local classic = redis.call('GET', KEYS[4])
local of_owner = classic and string.match(classic, ' =$')
local is_owners = owner and (owner == key or owner == old_key and iat > tonumber(held[5] or 0))
if owner and not is_owners and (not recovering or receipt <= claim) then return 'taken' end
if not owner and classic and not of_owner and not (recovering and receipt > 0) then return 'taken' end
local newest = math.max(is_owners and held_seq or 0, owner ~= key and former_seq(key) or 0)
if seq <= newest then return 'stale ' .. int(newest) end
if is_owners then
  if owner == key then
    rotation = ''
  else
    claim = recovering and claim + 1 or math.max(now, claim + 1)
  end
  if recovering then claim = math.max(claim, receipt) end
elseif owner then
  claim = receipt
else
  if recovering and receipt == 0 then return 'recovering' end
  if ARGV[19] == '1' and seq <= born then return 'stale ' .. int(born) end
  if ARGV[10] ~= '1' then return 'free' end
  local former_claim, former_seen = string.match(former, '^(%S+) (%S+)')
  claim, seen = math.max(now, former_claim + 1), tonumber(former_seen)
  if recovering then claim = receipt end
end
local signed = {}
if is_owners then
  for line in string.gmatch(redis.call('GET', KEYS[2]) or '', '[^\\n]+') do signed[#signed + 1] = line end
  signed[#signed] = nil
end
if rotation ~= '' then signed[#signed + 1] = rotation end
while #signed > tonumber(ARGV[14]) do table.remove(signed, 1) end
signed[#signed + 1] = record
seen = math.max(now, seen + 1)
local since = is_owners and unbroken(held[7], held[8]) or seen
if owner and owner ~= key then remember(owner, held_seq, claim, seen, ARGV[15], ARGV[16]) end
redis.call('HSET', KEYS[1], 'key', key, 'seq', ARGV[2], 'claim', int(claim), 'session', session, 'beat', 0,
  'seen', int(seen), 'since', int(since), 'until', int(seen + ARGV[12]),
  'originals', address ~= '' and '1' or '', 'mark', mark)
if rotation ~= '' then
  redis.call('HSET', KEYS[1], 'rotated', int(iat))
elseif not is_owners then
  redis.call('HDEL', KEYS[1], 'rotated')
end
redis.call('PEXPIRE', KEYS[1], ARGV[13])
redis.call('SET', KEYS[2], table.concat(signed, '\\n'), 'PX', ARGV[13])
if address ~= '' then
  redis.call('SET', KEYS[4], address .. ' =', 'PX', ARGV[12])
elseif classic then
  redis.call('DEL', KEYS[4])
end
if address ~= '' or ARGV[20] ~= '' then
  redis.call('SET', KEYS[5], address .. '\\n' .. ARGV[20], 'PX', ARGV[21])
else
  redis.call('DEL', KEYS[5])
end
return (is_owners and 'renewed ' or 'claimed ') .. int(claim) .. ' ' .. int(seen) .. ' ' .. int(since)
""")

# KEYS: as for CLAIM_OWNED. ARGV: key, seq, number of former owners to keep, and for how many ms.
RELEASE_OWNED = _with_former("""
local held = redis.call('HMGET', KEYS[1], 'key', 'seq', 'claim', 'seen')
if not held[1] then return 'free' end
if held[1] ~= ARGV[1] then return 'taken' end
if tonumber(ARGV[2]) <= tonumber(held[2]) then return 'stale ' .. held[2] end
local seen = math.max(now, held[4] + 1)
redis.call('DEL', KEYS[1], KEYS[2], KEYS[5])
if string.match(redis.call('GET', KEYS[4]) or '', ' =$') then redis.call('DEL', KEYS[4]) end
remember(ARGV[1], tonumber(ARGV[2]), tonumber(held[3]), seen, ARGV[3], ARGV[4])
return 'released ' .. held[3] .. ' ' .. int(seen)
""")

# KEYS: owner, signed, classic, location. ARGV: the session, or the address and proof, of the claim to undo.
UNDO = """
if redis.call('HGET', KEYS[1], 'session') == ARGV[1] then redis.call('DEL', unpack(KEYS)) end
if redis.call('GET', KEYS[3]) == ARGV[1] then redis.call('DEL', KEYS[3]) end
"""

# KEYS: owner, signed, classic, location. ARGV: session, number of the heartbeat, 1 if online, leases of presence and
# ownership in ms.
BEAT = _present("""
local held = redis.call('HMGET', KEYS[1], 'session', 'beat', 'seen', 'originals', 'until', 'since')
if not held[1] or held[1] == '' or held[1] ~= ARGV[1] then return '' end
if tonumber(ARGV[2]) <= tonumber(held[2]) then return '' end
local online, to_originals = ARGV[3] == '1', held[4] == '1'
local seen = math.max(now, held[3] + 1)
local since = unbroken(held[5], held[6]) or seen
if online then
  redis.call('HSET', KEYS[1], 'beat', ARGV[2], 'seen', int(seen), 'since', int(since), 'until', int(seen + ARGV[4]))
else
  redis.call('HSET', KEYS[1], 'session', '', 'seen', int(seen), 'until', 0)
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
if not online then
  redis.call('DEL', KEYS[4])
  if to_originals then redis.call('DEL', KEYS[3]) end
elseif to_originals then
  local address = string.match(redis.call('GET', KEYS[4]) or '', '^(%S+ %S+)\\n')
  if address then redis.call('SET', KEYS[3], address .. ' =', 'PX', ARGV[4]) end
end
return int(seen) .. (to_originals and ' 1 ' or ' 0 ') .. int(since)
""")

# KEYS: for each name, owner, signed, classic, location. It only reads, so like MGET it takes many names; with a cluster
# they would be grouped by slot. Replies, with an empty line between two names: "owned KEY ONLINE SINCE", the location
# of an online name or "-", and the rotations and the record, a line each; or "classic IP PORT"; or "-".
VIEW = _present("""
local views = {}
for i = 1, #KEYS, 4 do
  local view = '-'
  local held, signed = redis.call('HMGET', KEYS[i], 'key', 'until', 'seen', 'since'), redis.call('GET', KEYS[i + 1])
  if held[1] and signed then
    local since = unbroken(held[2], held[4] or held[3])
    local location = since and string.match(redis.call('GET', KEYS[i + 3]) or '', '\\n(%S+)') or '-'
    view = table.concat({'owned', held[1], since and '1' or '0', int(since or held[3])}, ' ') .. '\\n' .. location
      .. '\\n' .. signed
  else
    local address, proof = string.match(redis.call('GET', KEYS[i + 2]) or '', '^(%S+ %S+) (%S+)$')
    if address and proof ~= '=' then view = 'classic ' .. address end
  end
  views[#views + 1] = view
end
return table.concat(views, '\\n\\n')
""")

# KEYS: owner, classic. Replies the ms that each has to live (negative if it has expired), when the owner was seen,
# whether it is online, whether original clients see it, and since when it is online.
LEFT = _present("""
local held = redis.call('HMGET', KEYS[1], 'seen', 'until', 'originals', 'since')
local classic = redis.call('PTTL', KEYS[2])
if not held[1] then return '-2 ' .. classic .. ' 0 off 0 0' end
local since = unbroken(held[2], held[4] or held[1])
return redis.call('PTTL', KEYS[1]) .. ' ' .. classic .. ' ' .. held[1] .. (since and ' on' or ' off')
  .. (held[3] == '1' and ' 1 ' or ' 0 ') .. int(since or 0)
""")

# KEYS: the names of keys. ARGV: for how many ms, and these names. A hint may be written after the claim.
HINT = """
for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[i + 1], 'PX', ARGV[1]) end
"""

# KEYS: the name of a key. ARGV: the name that it no longer owns.
FORGET = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"

# KEYS: the holder of an invitation. ARGV: the key that uses it, and for how many ms it is valid.
USE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
"""

# KEYS: the home of a room. ARGV: the home that it gets if it has none, for how many ms it is kept, and a dead home,
# which counts as none. Replies its home.
ROOM = """
local home = redis.call('GET', KEYS[1])
if not home or home == ARGV[3] then home = ARGV[1] end
redis.call('SET', KEYS[1], home, 'PX', math.max(ARGV[2], redis.call('PTTL', KEYS[1])))
return home
"""

# KEYS: token buckets. ARGV, for each: tokens wanted, tokens added in a second, capacity. The key of a full bucket
# expires. Replies a line for each: the tokens granted, and the seconds until there is another one.
TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local replies = {}
for i, key in ipairs(KEYS) do
  local wanted, rate, burst = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local level, at = string.match(redis.call('GET', key) or '', '^(%S+) (%S+)$')
  level = level and math.min(burst, level + math.max(0, now - at) * rate) or burst
  local granted = math.min(wanted, math.floor(level))
  level = level - granted
  local wait = level < 1 and (1 - level) / rate or 0
  local fills = math.ceil((burst - level) / rate * 1000)
  if fills > 0 then
    redis.call('SET', key, string.format('%.9f %.6f', level, now), 'PX', fills)
  end
  replies[i] = string.format('%d %.6f', granted, wait)
end
return table.concat(replies, '\\n')
"""
