package bench;

import java.io.IOException;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** One event, and a serializer for it that writes four words and no class names. */
public final class Event {
    public long user;
    public long item;
    public byte behavior;
    public long timeMs;

    /** The type, so that Flink's own POJO serializer stays out of the way. */
    public static TypeInformation<Event> type() {
        return new SerializerType<>(Event.class, Serializer.INSTANCE);
    }

    public static final class Serializer extends TypeSerializerSingleton<Event> {
        static final Serializer INSTANCE = new Serializer();

        @Override
        public boolean isImmutableType() {
            return false;
        }

        @Override
        public Event createInstance() {
            return new Event();
        }

        @Override
        public Event copy(Event from) {
            return copy(from, new Event());
        }

        @Override
        public Event copy(Event from, Event to) {
            to.user = from.user;
            to.item = from.item;
            to.behavior = from.behavior;
            to.timeMs = from.timeMs;
            return to;
        }

        @Override
        public int getLength() {
            return 25;
        }

        @Override
        public void serialize(Event event, DataOutputView out) throws IOException {
            out.writeLong(event.user);
            out.writeLong(event.item);
            out.writeByte(event.behavior);
            out.writeLong(event.timeMs);
        }

        @Override
        public Event deserialize(DataInputView in) throws IOException {
            return deserialize(new Event(), in);
        }

        @Override
        public Event deserialize(Event event, DataInputView in) throws IOException {
            event.user = in.readLong();
            event.item = in.readLong();
            event.behavior = in.readByte();
            event.timeMs = in.readLong();
            return event;
        }

        @Override
        public void copy(DataInputView from, DataOutputView to) throws IOException {
            to.write(from, getLength());
        }

        @Override
        public TypeSerializerSnapshot<Event> snapshotConfiguration() {
            return new SimpleTypeSerializerSnapshot<>(() -> INSTANCE) {};
        }
    }

    /** A type that is known by its serializer alone. */
    static final class SerializerType<T> extends TypeInformation<T> {
        private final Class<T> type;
        private final TypeSerializer<T> serializer;

        SerializerType(Class<T> type, TypeSerializer<T> serializer) {
            this.type = type;
            this.serializer = serializer;
        }

        @Override
        public boolean isBasicType() {
            return false;
        }

        @Override
        public boolean isTupleType() {
            return false;
        }

        @Override
        public int getArity() {
            return 1;
        }

        @Override
        public int getTotalFields() {
            return 1;
        }

        @Override
        public Class<T> getTypeClass() {
            return type;
        }

        @Override
        public boolean isKeyType() {
            return false;
        }

        @Override
        public TypeSerializer<T> createSerializer(org.apache.flink.api.common.serialization.SerializerConfig config) {
            return serializer;
        }

        @Override
        public String toString() {
            return type.getSimpleName();
        }

        @Override
        public boolean equals(Object other) {
            return other instanceof SerializerType<?> that && that.type == type;
        }

        @Override
        public int hashCode() {
            return type.hashCode();
        }

        @Override
        public boolean canEqual(Object other) {
            return other instanceof SerializerType;
        }
    }
}
