#include "run/html_data.h"

#include <stdio.h>
#include <string.h>

#include "data/formats/conversation.h"

static int64_t number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static const char *string(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static void count_cell(struct html *h, int64_t n)
{
    char text[32];
    html_element(h, "td class=n", text_count(n, text));
}

static void share_cell(struct html *h, int64_t part, int64_t all)
{
    if (all > 0)
        html_format(h, "<td class=n>%.1f %%</td>", 100.0 * (double)part / (double)all);
    else
        html_put(h, "<td class=n></td>");
}

static int64_t dropped_sum(const json_t *source)
{
    const char *key;
    json_t *tally, *dropped = json_object_get(source, "dropped");
    int64_t sum = 0;
    json_object_foreach(dropped, key, tally) sum += number(tally, "count");
    return sum;
}

static void source_row(struct html *h, const json_t *s, const char *name)
{
    html_put(h, "<tr><th scope=row><bdi>");
    html_string(h, name);
    html_put(h, "</bdi></th><td>");
    html_string(h, string(s, "format"));
    html_put(h, "</td>");
    count_cell(h, number(s, "records"));
    count_cell(h, number(s, "documents"));
    count_cell(h, dropped_sum(s));
    count_cell(h, number(s, "tokens"));
    share_cell(h, number(s, "supervised"), number(s, "tokens"));
    count_cell(h, number(s, "longest"));
    html_put(h, "</tr>\n");
}

static void write_sources(struct html *h, const json_t *report)
{
    size_t i;
    json_t *s, *sources = json_object_get(report, "sources");
    html_table(h, "source|format|#records|#kept|#dropped|#tokens|#trained|#longest");
    json_array_foreach(sources, i, s) source_row(h, s, string(s, "path"));
    html_table_end(h);
}

/* What a drop reason, or a repair, says to people. */
static const char *reason_text(const char *name)
{
    for (int r = 1; r < NUM_DROP_REASONS; r++)
        if (!strcmp(name, drop_name((enum drop_reason)r))) return drop_text((enum drop_reason)r);
    return name;
}

static void tally_row(struct html *h, const json_t *source, const char *text, const json_t *tally)
{
    size_t i;
    json_t *place, *places = json_object_get(tally, "places");
    if (!number(tally, "count")) return;
    html_put(h, "<tr><td><bdi>");
    html_string(h, string(source, "path"));
    html_put(h, "</bdi></td>");
    html_element(h, "td", text);
    count_cell(h, number(tally, "count"));
    html_put(h, "<td>");
    const char *places_are = string(source, "places"); /* "lines", "records" */
    size_t length = strlen(places_are);
    html_text(h, places_are, length - (length && number(tally, "count") == 1));
    json_array_foreach(places, i, place)
        html_format(h, "%s %lld", i ? "," : "", (long long)json_integer_value(place));
    if ((size_t)number(tally, "count") > json_array_size(places)) html_put(h, ", …");
    html_put(h, "</td></tr>\n");
}

static void write_drops(struct html *h, const json_t *report)
{
    size_t i;
    const char *name;
    json_t *s, *tally, *sources = json_object_get(report, "sources");
    int64_t any = 0;
    json_array_foreach(sources, i, s)
    {
        any += dropped_sum(s) + number(json_object_get(s, "left_out_leading_reply"), "count") +
               number(json_object_get(s, "left_out_trailing_question"), "count");
    }
    if (!any) {
        html_put(h, "<p class=faint>No record was dropped or changed.</p>\n");
        return;
    }
    html_put(h, "<h3>Dropped, and why</h3>");
    html_table(h, "source|reason|#records|the first");
    json_array_foreach(sources, i, s)
    {
        json_object_foreach(json_object_get(s, "dropped"), name, tally)
            tally_row(h, s, reason_text(name), tally);
        tally_row(h, s, "kept, without a reply that nobody asked for",
                  json_object_get(s, "left_out_leading_reply"));
        tally_row(h, s, "kept, without a last question that has no reply",
                  json_object_get(s, "left_out_trailing_question"));
    }
    html_table_end(h);
}

static void write_lengths(struct html *h, const json_t *total)
{
    size_t i, first = SIZE_MAX, last = 0;
    json_t *bucket, *lengths = json_object_get(total, "lengths");
    int64_t most = 1, end = 0;
    json_array_foreach(lengths, i, bucket)
    {
        int64_t n = number(bucket, "documents");
        if (n && first == SIZE_MAX) first = i;
        if (n) last = i;
        if (n > most) most = n;
    }
    if (first == SIZE_MAX) return;
    html_put(h, "<h3>Lengths</h3>");
    html_table(h, "tokens|#documents|of the largest");
    json_array_foreach(lengths, i, bucket)
    {
        int64_t n = number(bucket, "documents"), from = end + 1;
        json_t *up_to = json_object_get(bucket, "up_to");
        end = json_integer_value(up_to);
        if (i < first || i > last) continue;
        if (json_is_null(up_to))
            html_format(h, "<tr><th scope=row>from %lld</th>", (long long)from);
        else
            html_format(h, "<tr><th scope=row>%lld–%lld</th>", (long long)from, (long long)end);
        count_cell(h, n);
        html_bar(h, (double)n / (double)most);
        html_put(h, "</tr>\n");
    }
    html_table_end(h);
}

void html_data(struct html *h, const json_t *report)
{
    json_t *total = json_object_get(report, "total");
    if (!json_is_object(total)) {
        html_put(h, "<p class=faint>The dataset file holds no account of its making.</p>\n");
        return;
    }
    write_sources(h, report);
    write_drops(h, report);
    write_lengths(h, total);
}
