package bench;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.functions.windowing.WindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/** The two streaming jobs of the design that Eddyline replaces, as tutorials have them: POJOs and overlapping windows. */
final class OldJobs {
    private OldJobs() {}

    /** A POJO in Flink's sense. */
    public static class Behavior {
        public long user;
        public long item;
        public String behavior;
        public long timeMs;
    }

    /** Count of one item in one window. */
    public static class ItemCount {
        public long item;
        public long windowEndMs;
        public long count;
    }

    static DataStream<Behavior> behaviors(DataStream<String> lines) {
        return lines.map(line -> {
                    String[] fields = line.split(",");
                    Behavior behavior = new Behavior();
                    behavior.user = Long.parseLong(fields[0]);
                    behavior.item = Long.parseLong(fields[1]);
                    behavior.behavior = fields[2];
                    behavior.timeMs = Long.parseLong(fields[3]) * 1000;
                    return behavior;
                })
                .returns(Behavior.class)
                .assignTimestampsAndWatermarks(
                        WatermarkStrategy.<Behavior>forBoundedOutOfOrderness(Duration.ofSeconds(10))
                                .withTimestampAssigner((behavior, before) -> behavior.timeMs));
    }

    static void popular(DataStream<Behavior> behaviors) {
        behaviors.keyBy(behavior -> behavior.item)
                .window(SlidingEventTimeWindows.of(Duration.ofMinutes(60), Duration.ofSeconds(80)))
                .aggregate(new Count(), new WithWindow())
                .keyBy(count -> count.windowEndMs)
                .process(new TopN())
                .map(Results::list)
                .returns(TopList.class)
                .sinkTo(new DiscardingSink<>());
    }

    static void recent(DataStream<Behavior> behaviors) {
        behaviors.keyBy(behavior -> behavior.user)
                .window(SlidingEventTimeWindows.of(Duration.ofSeconds(60), Duration.ofSeconds(20)))
                .process(new LastItems())
                .map(Results::line)
                .returns(String.class)
                .sinkTo(new DiscardingSink<>());
    }

    private static final class Count implements AggregateFunction<Behavior, Long, Long> {
        @Override
        public Long createAccumulator() {
            return 0L;
        }

        @Override
        public Long add(Behavior behavior, Long count) {
            return count + 1;
        }

        @Override
        public Long getResult(Long count) {
            return count;
        }

        @Override
        public Long merge(Long a, Long b) {
            return a + b;
        }
    }

    private static final class WithWindow implements WindowFunction<Long, ItemCount, Long, TimeWindow> {
        @Override
        public void apply(Long item, TimeWindow window, Iterable<Long> counts, Collector<ItemCount> out) {
            ItemCount count = new ItemCount();
            count.item = item;
            count.windowEndMs = window.getEnd();
            count.count = counts.iterator().next();
            out.collect(count);
        }
    }

    private static final class TopN extends KeyedProcessFunction<Long, ItemCount, TopList> {
        private transient ListState<ItemCount> state;

        @Override
        public void open(OpenContext context) {
            state = getRuntimeContext().getListState(new ListStateDescriptor<>("counts", ItemCount.class));
        }

        @Override
        public void processElement(ItemCount count, Context context, Collector<TopList> out) throws Exception {
            state.add(count);
            context.timerService().registerEventTimeTimer(count.windowEndMs + 1);
        }

        @Override
        public void onTimer(long timestamp, OnTimerContext context, Collector<TopList> out) throws Exception {
            List<ItemCount> counts = new ArrayList<>();
            state.get().forEach(counts::add);
            state.clear();
            counts.sort(Comparator.<ItemCount>comparingLong(count -> -count.count).thenComparingLong(count -> count.item));
            TopList list = new TopList();
            list.windowEndMs = timestamp - 1;
            counts.stream().limit(TopList.LENGTH).forEach(count -> list.offer(count.item, (int) count.count));
            out.collect(list);
        }
    }

    /** Adds the window's items to a history of ten that is kept in state, three times each, since windows overlap. */
    private static final class LastItems extends ProcessWindowFunction<Behavior, String, Long, TimeWindow> {
        private transient ListState<Long> history;

        @Override
        public void open(OpenContext context) {
            history = getRuntimeContext().getListState(new ListStateDescriptor<>("history", Long.class));
        }

        @Override
        public void process(Long user, Context context, Iterable<Behavior> window, Collector<String> out) throws Exception {
            List<Behavior> sorted = new ArrayList<>();
            window.forEach(sorted::add);
            sorted.sort(Comparator.comparingLong(behavior -> behavior.timeMs));
            List<Long> items = new ArrayList<>();
            history.get().forEach(items::add);
            sorted.forEach(behavior -> items.add(behavior.item));
            List<Long> last = new ArrayList<>(items.subList(Math.max(0, items.size() - 10), items.size()));
            history.update(last);
            out.collect(user + "," + last);
        }
    }
}
