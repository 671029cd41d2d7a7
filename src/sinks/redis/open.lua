-- Makes the meta hash ours.
-- KEYS: the meta hash.
-- ARGV: epoch, writer, status, and for a hash that is not there yet its fields and values.
if #ARGV > 3 then
    if redis.call('EXISTS', KEYS[1]) == 1 then
        return { 'taken' }
    end
    redis.call('HSET', KEYS[1], unpack(ARGV, 4))
end
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then
    return { 'gone' }
end
if tonumber(epoch) > tonumber(ARGV[1]) then
    return { 'fenced', epoch }
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'writer', ARGV[2], 'status', ARGV[3])
return { 'ok' }
