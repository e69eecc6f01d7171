#include "cli/watch.h"

#include "base/log.h"
#include "cli/progress.h"

static double began;

static void progress(void *context, const struct prepare_progress *p)
{
    char left[16];
    double now = clock_seconds();
    (void)context;
    if (!p->bytes || began == 0) began = now;
    double share = p->total_bytes ? (double)p->bytes / (double)p->total_bytes : 1;
    double rest = share > 0 ? (now - began) * (1 - share) / share : 0;
    progress_show("preparing %s  %3.0f %%  %lld documents  %s left", p->path, 100 * share,
                  (long long)p->documents, progress_time(rest, left));
}

static void prepared(void *context, const struct prepare_report *report, const char *path)
{
    struct buf text;
    (void)context;
    buf_init(&text, 1 << 22);
    if (!prepare_report_print(report, &text)) progress_say("%s", text.data);
    progress_say("prepared into %s", path);
    buf_free(&text);
}

static void reference(void *context, int64_t done, int64_t all)
{
    static double since;
    static int64_t first;
    char left[16];
    double now = clock_seconds();
    (void)context;
    if (since == 0 || done < first) since = now, first = done;
    double rate = done > first ? (now - since) / (double)(done - first) : 0;
    progress_show("reference  %lld/%lld records  %s left", (long long)done, (long long)all,
                  progress_time(rate * (double)(all - done), left));
}

static void weights(void *context, uint64_t done, uint64_t all, double seconds)
{
    char left[16];
    double share = all ? (double)done / (double)all : 1;
    (void)context;
    progress_show("weights  %.1f of %.1f GB  %.2f GB/s  %s left", (double)done / 1e9,
                  (double)all / 1e9, (double)done / 1e9 / seconds,
                  progress_time(share > 0 ? seconds * (1 - share) / share : 0, left));
}

const struct dataset_watcher watch_preparing = {NULL, progress, prepared, reference, weights};
const struct dataset_watcher watch_preparing_quietly = {NULL, progress, NULL, reference, weights};
