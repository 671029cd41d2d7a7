package bench;

import java.io.IOException;
import java.io.InputStream;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.file.src.reader.SimpleStreamFormat;
import org.apache.flink.core.fs.FSDataInputStream;

/** Parses rows straight from bytes, without a String on the way. */
public final class EventFormat extends SimpleStreamFormat<Event> {
    @Override
    public Reader createReader(Configuration config, FSDataInputStream stream) {
        Clock.start();
        return new Reader(stream);
    }

    @Override
    public TypeInformation<Event> getProducedType() {
        return Event.type();
    }

    public static final class Reader implements org.apache.flink.connector.file.src.reader.StreamFormat.Reader<Event> {
        private final InputStream stream;
        private final byte[] buffer = new byte[1 << 16];
        private int next;
        private int filled;

        Reader(InputStream stream) {
            this.stream = stream;
        }

        @Override
        public Event read() throws IOException {
            if (next == filled && !fill()) {
                return null;
            }
            Event event = new Event();
            event.user = number();
            event.item = number();
            event.behavior = word();
            event.timeMs = number() * 1000;
            return event;
        }

        /** The digits up to the next separator, which is skipped. */
        private long number() throws IOException {
            long value = 0;
            while (true) {
                if (next == filled && !fill()) {
                    return value;
                }
                int digit = buffer[next++] - '0';
                if (digit < 0 || digit > 9) {
                    return value;
                }
                value = value * 10 + digit;
            }
        }

        /** The first letter of a field: pv, cart, fav and buy differ in it. */
        private byte word() throws IOException {
            byte first = 0;
            while (next < filled || fill()) {
                byte letter = buffer[next++];
                if (letter == ',') {
                    break;
                }
                first = first == 0 ? letter : first;
            }
            return first;
        }

        private boolean fill() throws IOException {
            filled = Math.max(0, stream.read(buffer, 0, buffer.length));
            next = 0;
            return filled > 0;
        }

        @Override
        public void close() throws IOException {
            stream.close();
        }
    }
}
