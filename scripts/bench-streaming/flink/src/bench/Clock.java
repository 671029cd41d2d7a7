package bench;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.util.concurrent.atomic.AtomicReference;

/** Wall-clock and processor time since the first file was opened: the start of the local cluster is not the job's. */
final class Clock {
    record Reading(long nanos, long cpuNanos) {}

    private static final OperatingSystemMXBean SYSTEM =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    private static final AtomicReference<Reading> START = new AtomicReference<>();

    private Clock() {}

    /** Called by whoever opens a file; the first call counts. */
    static void start() {
        START.compareAndSet(null, now());
    }

    static Reading sinceStart() {
        Reading start = START.get();
        Reading end = now();
        return new Reading(end.nanos - start.nanos, end.cpuNanos - start.cpuNanos);
    }

    private static Reading now() {
        return new Reading(System.nanoTime(), SYSTEM.getProcessCpuTime());
    }
}
