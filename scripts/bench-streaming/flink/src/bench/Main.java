package bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.connector.file.src.FileSource;
import org.apache.flink.connector.file.src.reader.StreamFormat;
import org.apache.flink.connector.file.src.reader.TextLineInputFormat;
import org.apache.flink.core.fs.FSDataInputStream;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** {@code Main JOB SLOTS LISTS|- FILE…}: runs one job on a local cluster and prints what it took, as JSON. */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) throws Exception {
        String job = arguments[0];
        int slots = Integer.parseInt(arguments[1]);
        org.apache.flink.core.fs.Path[] files = Arrays.stream(arguments)
                .skip(3)
                .map(org.apache.flink.core.fs.Path::new)
                .toArray(org.apache.flink.core.fs.Path[]::new);
        Configuration configuration = new Configuration();
        configuration.set(StateBackendOptions.STATE_BACKEND, "hashmap");
        configuration.set(StreamFormat.FETCH_IO_SIZE, MemorySize.ofMebiBytes(1));
        StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(slots, configuration);
        env.getConfig().enableObjectReuse();
        switch (job) {
            case "old-popular" -> OldJobs.popular(OldJobs.behaviors(lines(env, files)));
            case "old-recent" -> OldJobs.recent(OldJobs.behaviors(lines(env, files)));
            case "popular" -> ExpertJobs.popular(events(env, files));
            case "recent" -> ExpertJobs.recent(events(env, files));
            case "both" -> {
                DataStream<Event> events = events(env, files);
                ExpertJobs.popular(events);
                ExpertJobs.recent(events);
            }
            default -> throw new IllegalArgumentException(job);
        }
        env.execute(job);
        Clock.Reading took = Clock.sinceStart();
        System.out.printf("{\"seconds\":%.3f,\"cpu_seconds\":%.3f,\"rows\":%d}%n",
                took.nanos() / 1e9, took.cpuNanos() / 1e9, Results.ROWS.sum());
        if (!arguments[2].equals("-")) {
            Files.write(Path.of(arguments[2]), Results.LISTS.values());
        }
    }

    private static DataStream<Event> events(StreamExecutionEnvironment env, org.apache.flink.core.fs.Path[] files) {
        FileSource<Event> source = FileSource.forRecordStreamFormat(new EventFormat(), files).build();
        return env.fromSource(source, Ticks.strategy(), "events");
    }

    private static DataStream<String> lines(StreamExecutionEnvironment env, org.apache.flink.core.fs.Path[] files) {
        FileSource<String> source = FileSource.forRecordStreamFormat(new Lines(), files).build();
        return env.fromSource(source, WatermarkStrategy.noWatermarks(), "lines").setParallelism(1);
    }

    /** Flink's own lines, with the time taken when a file is opened. */
    public static final class Lines extends TextLineInputFormat {
        @Override
        public Reader createReader(Configuration config, FSDataInputStream stream) throws IOException {
            Clock.start();
            return super.createReader(config, stream);
        }
    }
}
