package bench;

import java.util.Arrays;

/** Item to count: open addressing over two arrays, no boxes. Removing is setting to zero; a rehash sweeps zeros out. */
final class Counts {
    private static final long EMPTY = -1;

    long[] items = new long[64];
    int[] counts = new int[64];
    /** Slots in use, zeros included. */
    private int used;

    Counts() {
        Arrays.fill(items, EMPTY);
    }

    void add(long item, int count) {
        int slot = slotOf(item);
        if (items[slot] == EMPTY) {
            if ((used + 1) * 2 > items.length) {
                rehash();
                slot = slotOf(item);
            }
            items[slot] = item;
            used++;
        }
        counts[slot] += count;
    }

    void clear() {
        Arrays.fill(items, EMPTY);
        Arrays.fill(counts, 0);
        used = 0;
    }

    private int slotOf(long item) {
        int mask = items.length - 1;
        int slot = (int) ((item * 0x9e3779b97f4a7c15L) >>> 32) & mask;
        while (items[slot] != EMPTY && items[slot] != item) {
            slot = (slot + 1) & mask;
        }
        return slot;
    }

    private void rehash() {
        long[] oldItems = items;
        int[] oldCounts = counts;
        int live = 1;
        for (int count : oldCounts) {
            live += count != 0 ? 1 : 0;
        }
        int length = Math.max(64, Integer.highestOneBit(live) * 4);
        items = new long[length];
        counts = new int[length];
        Arrays.fill(items, EMPTY);
        used = 0;
        for (int i = 0; i < oldItems.length; i++) {
            if (oldCounts[i] != 0) {
                int slot = slotOf(oldItems[i]);
                items[slot] = oldItems[i];
                counts[slot] = oldCounts[i];
                used++;
            }
        }
    }
}
