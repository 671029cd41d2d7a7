package bench;

import java.util.ArrayDeque;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.util.Collector;

/** The jobs that someone who knows Flink well would write: state is keyed and checkpointable, but few objects hold it. */
final class ExpertJobs {
    /** State objects for the counts; enough to balance two slots, few enough that a pane costs next to nothing. */
    private static final int BUCKETS = 32;

    private ExpertJobs() {}

    static void popular(DataStream<Event> events) {
        events.keyBy(event -> (int) (event.item % BUCKETS), Types.INT)
                .process(new PaneCounts())
                .returns(TypeInformation.of(TopList.class))
                .keyBy(list -> list.windowEndMs, Types.LONG)
                .process(new Merge())
                .returns(TypeInformation.of(TopList.class))
                .map(Results::list)
                .returns(TypeInformation.of(TopList.class))
                .sinkTo(new DiscardingSink<>());
    }

    static void recent(DataStream<Event> events) {
        events.keyBy(event -> event.user, Types.LONG)
                .process(new LastItems())
                .returns(TypeInformation.of(History.class))
                .map(Results::history)
                .returns(TypeInformation.of(History.class))
                .sinkTo(new DiscardingSink<>());
    }

    /** Counts of one bucket of items: a ring of panes and the sum of the closed ones. */
    public static final class Panes {
        static final long SLIDE_MS = 80_000;
        static final int WINDOW = 45;
        /** The window's panes, and as many open ones as two readers may drift apart: two and a half days. */
        static final int RING = 4096;

        final Counts[] ring = new Counts[RING];
        final ArrayDeque<Counts> spare = new ArrayDeque<>();
        final Counts totals = new Counts();
        final int[] events = new int[RING];
        long eventsTotal;
        boolean active;

        void add(long item, long timeMs) {
            int pane = (int) (timeMs / SLIDE_MS % RING);
            if (ring[pane] == null) {
                ring[pane] = spare.isEmpty() ? new Counts() : spare.pop();
            }
            ring[pane].add(item, 1);
            events[pane]++;
            eventsTotal++;
        }

        void close(long endMs) {
            int newest = (int) ((endMs / SLIDE_MS - 1) % RING);
            int oldest = (int) (Math.floorMod(endMs / SLIDE_MS - 1 - WINDOW, (long) RING));
            addAll(ring[newest], 1);
            addAll(ring[oldest], -1);
            if (ring[oldest] != null) {
                ring[oldest].clear();
                spare.push(ring[oldest]);
                ring[oldest] = null;
                eventsTotal -= events[oldest];
                events[oldest] = 0;
            }
        }

        private void addAll(Counts pane, int sign) {
            for (int i = 0; pane != null && i < pane.items.length; i++) {
                if (pane.counts[i] != 0) {
                    totals.add(pane.items[i], sign * pane.counts[i]);
                }
            }
        }
    }

    private static final class PaneCounts extends KeyedProcessFunction<Integer, Event, TopList> {
        private transient ValueState<Panes> state;

        @Override
        public void open(OpenContext context) {
            state = getRuntimeContext().getState(new ValueStateDescriptor<>("panes", TypeInformation.of(Panes.class)));
        }

        @Override
        public void processElement(Event event, Context context, Collector<TopList> out) throws Exception {
            Panes panes = state.value();
            if (panes == null) {
                panes = new Panes();
                state.update(panes);
            }
            panes.add(event.item, event.timeMs);
            if (!panes.active) {
                panes.active = true;
                long open = Math.max(context.timerService().currentWatermark() + 1, event.timeMs - Ticks.LATENESS_MS);
                context.timerService().registerEventTimeTimer((open / Panes.SLIDE_MS + 1) * Panes.SLIDE_MS - 1);
            }
        }

        @Override
        public void onTimer(long timestamp, OnTimerContext context, Collector<TopList> out) throws Exception {
            Panes panes = state.value();
            panes.close(timestamp + 1);
            TopList list = new TopList();
            list.windowEndMs = timestamp + 1;
            for (int i = 0; i < panes.totals.items.length; i++) {
                if (panes.totals.counts[i] > 0) {
                    list.offer(panes.totals.items[i], panes.totals.counts[i]);
                }
            }
            if (list.length > 0) {
                out.collect(list);
            }
            panes.active = panes.eventsTotal > 0;
            if (panes.active) {
                context.timerService().registerEventTimeTimer(timestamp + Panes.SLIDE_MS);
            }
        }
    }

    /** The buckets' lists of one window end, merged. */
    private static final class Merge extends KeyedProcessFunction<Long, TopList, TopList> {
        private transient ValueState<TopList> state;

        @Override
        public void open(OpenContext context) {
            state = getRuntimeContext().getState(new ValueStateDescriptor<>("list", TypeInformation.of(TopList.class)));
        }

        @Override
        public void processElement(TopList part, Context context, Collector<TopList> out) throws Exception {
            TopList list = state.value();
            if (list == null) {
                list = new TopList();
                list.windowEndMs = part.windowEndMs;
                state.update(list);
                context.timerService().registerEventTimeTimer(part.windowEndMs);
            }
            for (int rank = 0; rank < part.length; rank++) {
                list.offer(part.items[rank], part.counts[rank]);
            }
        }

        @Override
        public void onTimer(long timestamp, OnTimerContext context, Collector<TopList> out) throws Exception {
            out.collect(state.value());
            state.clear();
        }
    }

    /** A user's last ten items by time; of equal times in the order of arrival. */
    public static final class History {
        static final int LENGTH = 10;

        public long user;
        public int length;
        public long[] items = new long[LENGTH];
        public long[] timesMs = new long[LENGTH];

        void add(long item, long timeMs) {
            int place = length;
            while (place > 0 && timesMs[place - 1] > timeMs) {
                place--;
            }
            if (length < LENGTH) {
                System.arraycopy(items, place, items, place + 1, length - place);
                System.arraycopy(timesMs, place, timesMs, place + 1, length - place);
                length++;
            } else if (place == 0) {
                return;
            } else {
                place--;
                System.arraycopy(items, 1, items, 0, place);
                System.arraycopy(timesMs, 1, timesMs, 0, place);
            }
            items[place] = item;
            timesMs[place] = timeMs;
        }
    }

    private static final class LastItems extends KeyedProcessFunction<Long, Event, History> {
        private transient ValueState<History> state;

        @Override
        public void open(OpenContext context) {
            state = getRuntimeContext().getState(new ValueStateDescriptor<>("last", TypeInformation.of(History.class)));
        }

        @Override
        public void processElement(Event event, Context context, Collector<History> out) throws Exception {
            History history = state.value();
            if (history == null) {
                history = new History();
                history.user = event.user;
                state.update(history);
            }
            history.add(event.item, event.timeMs);
            out.collect(history);
        }
    }
}
