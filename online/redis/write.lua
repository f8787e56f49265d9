-- Writes records, each only if it is newer than what is under its key.
--   KEYS[i]  the key of a record; all of one slot
--   ARGV[i]  the record: a byte of kind, the order (32 bytes of kind 1, 16 of others), and the rest
--   ARGV[#KEYS+1]  if there, the milliseconds after which those that are written go
-- Returns how many were newer.
--
-- The order is compared byte by byte: Lua compares strings by the locale of the
-- server. Of the old record only its order is fetched, not the whole of it.
local byte, call = string.byte, redis.call
local applied, ttl = 0, ARGV[#KEYS + 1]
for i = 1, #KEYS do
  local key, value = KEYS[i], ARGV[i]
  local order = byte(value, 1) == 1 and 32 or 16
  local old = call('GETRANGE', key, 1, order)
  local newer = #old < order
  if not newer then
    for at = 1, order do
      local a, b = byte(value, at + 1), byte(old, at)
      if a ~= b then
        newer = a > b
        break
      end
    end
  end
  if newer then
    if ttl then
      call('SET', key, value, 'PX', ttl)
    else
      call('SET', key, value)
    end
    applied = applied + 1
  end
end
return applied
