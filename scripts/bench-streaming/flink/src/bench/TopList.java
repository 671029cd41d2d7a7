package bench;

/** The first ten by count descending, then by smaller item. */
public final class TopList {
    static final int LENGTH = 10;

    public long windowEndMs;
    public int length;
    public long[] items = new long[LENGTH];
    public int[] counts = new int[LENGTH];

    void offer(long item, int count) {
        if (length == LENGTH && !before(count, item, counts[LENGTH - 1], items[LENGTH - 1])) {
            return;
        }
        int rank = length < LENGTH ? length++ : LENGTH - 1;
        while (rank > 0 && before(count, item, counts[rank - 1], items[rank - 1])) {
            counts[rank] = counts[rank - 1];
            items[rank] = items[rank - 1];
            rank--;
        }
        counts[rank] = count;
        items[rank] = item;
    }

    private static boolean before(int count, long item, int otherCount, long otherItem) {
        return count > otherCount || count == otherCount && item < otherItem;
    }

    @Override
    public String toString() {
        StringBuilder line = new StringBuilder().append(windowEndMs / 1000);
        for (int rank = 0; rank < length; rank++) {
            line.append(' ').append(items[rank]).append(':').append(counts[rank]);
        }
        return line.toString();
    }
}
