package bench;

import java.util.Map;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.atomic.LongAdder;

/** What a job put out: counted, and the popular lists kept for comparison. All tasks share this process. */
final class Results {
    static final LongAdder ROWS = new LongAdder();
    static final Map<Long, String> LISTS = new ConcurrentSkipListMap<>();

    private Results() {}

    static TopList list(TopList list) {
        ROWS.increment();
        LISTS.put(list.windowEndMs, list.toString());
        return list;
    }

    static ExpertJobs.History history(ExpertJobs.History history) {
        ROWS.increment();
        return history;
    }

    static String line(String line) {
        ROWS.increment();
        return line;
    }
}
