package bench;

import org.apache.flink.api.common.eventtime.Watermark;
import org.apache.flink.api.common.eventtime.WatermarkGenerator;
import org.apache.flink.api.common.eventtime.WatermarkOutput;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;

/** A watermark at every tick that the largest time less the lateness passes, and at no other time. */
final class Ticks implements WatermarkGenerator<Event> {
    static final long LATENESS_MS = 10_000;
    private static final long TICK_MS = 20_000;

    private long nextMs = Long.MIN_VALUE;

    static WatermarkStrategy<Event> strategy() {
        return WatermarkStrategy.<Event>forGenerator(context -> new Ticks())
                .withTimestampAssigner((event, before) -> event.timeMs);
    }

    @Override
    public void onEvent(Event event, long timestamp, WatermarkOutput output) {
        long watermark = timestamp - LATENESS_MS;
        if (watermark >= nextMs) {
            long tick = watermark / TICK_MS * TICK_MS;
            output.emitWatermark(new Watermark(tick - 1));
            nextMs = tick + TICK_MS;
        }
    }

    @Override
    public void onPeriodicEmit(WatermarkOutput output) {}
}
