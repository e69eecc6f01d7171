#include "run/html.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/tokenizer/utf8.h"

/* Colours are chosen for a contrast of at least 4.5 on their ground, in both schemes. */
static const char style[] =
    ":root{color-scheme:light dark;--ground:#fff;--panel:#f5f6f8;--line:#d9dde3;--ink:#1b1f24;"
    "--faint:#57606a;--a:#1f5fd0;--b:#b4430b;--soft:#9dbcf0;--good:#0a3d1d;--good-ground:#cdf0d8;"
    "--good-line:#1f8a4c;--mark:#7a4d00;--mark-ground:#fbe9c6}"
    "@media(prefers-color-scheme:dark){:root{--ground:#12151a;--panel:#1b2027;--line:#343c47;"
    "--ink:#e6e9ee;--faint:#9ba6b3;--a:#82b0ff;--b:#ffa56b;--soft:#3f5f96;--good:#cff5dc;"
    "--good-ground:#16402a;--good-line:#4cc382;--mark:#ffd58a;--mark-ground:#453410}}"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--ground);color:var(--ink);"
    "font:16px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,\"Noto Sans\",sans-serif}"
    "main{max-width:76rem;margin:0 auto;padding:1.5rem 1.25rem 4rem}"
    "h1{font-size:1.6rem;line-height:1.25;margin:.2rem 0 .3rem;overflow-wrap:anywhere}"
    "h2{font-size:1.15rem;margin:0 0 "
    ".8rem}h2::first-letter{text-transform:uppercase}h3{font-size:1rem;margin:1.2rem 0 .4rem;"
    "overflow-wrap:anywhere}"
    "p{margin:.3rem 0 .8rem}.faint{color:var(--faint)}"
    "section{margin:2.2rem 0 0;padding-top:1.2rem;border-top:1px solid var(--line)}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.2rem,1fr));gap:.7rem;"
    "margin:1rem 0}"
    ".tile{background:var(--panel);border-radius:.5rem;padding:.6rem .8rem;overflow-wrap:anywhere}"
    ".tile b{display:block;font-size:1.3rem;font-weight:600;font-variant-numeric:tabular-nums}"
    ".tile span{display:block;color:var(--faint);font-size:.85rem}"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));"
    "gap:1rem}"
    "figure{margin:0;background:var(--panel);border-radius:.5rem;padding:.8rem}"
    "figcaption{display:flex;flex-wrap:wrap;gap:.2rem 1rem;align-items:baseline}"
    "figcaption b{font-weight:600}figcaption output{margin-left:auto;color:var(--faint);"
    "font-size:.85rem;font-variant-numeric:tabular-nums}"
    ".key{font-size:.85rem;color:var(--faint)}.key i{display:inline-block;width:1.4rem;"
    "margin-right:.3rem;vertical-align:middle;border-top:3px solid var(--a)}"
    ".key i.s1{border-top-color:var(--b)}"
    ".key i.s2{border-top:2px solid var(--soft)}"
    "svg{display:block;width:100%;height:auto}svg text{fill:var(--faint);"
    "font:13px system-ui,sans-serif;font-variant-numeric:tabular-nums}"
    "svg .grid{stroke:var(--line);stroke-width:1;fill:none}"
    "svg .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}"
    "svg .s0{stroke:var(--a);color:var(--a)}svg .s1{stroke:var(--b);color:var(--b)}"
    "svg .s2{stroke:var(--soft);color:var(--soft);stroke-width:1.2}"
    "svg .dot{stroke:none;fill:currentColor}"
    "svg .cursor{stroke:var(--faint);stroke-dasharray:3 3}"
    ".wide{overflow-x:auto}"
    "table{border-collapse:collapse;font-size:.92rem}"
    "th,td{text-align:left;vertical-align:top;padding:.25rem .9rem .25rem 0;"
    "border-bottom:1px solid var(--line)}th bdi,td bdi{overflow-wrap:anywhere}"
    "td.v,th:has(bdi),td:has(bdi){min-width:9rem}"
    "thead th{color:var(--faint);font-weight:500}tbody th{font-weight:500}"
    "th.n,td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
    "td.bar{width:14rem;min-width:7rem}td.bar i{display:block;height:.8rem;margin-top:.35rem;"
    "background:var(--a);border-radius:2px;min-width:1px}"
    "td.v,pre,code,.t{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"
    "\"DejaVu Sans Mono\",monospace;font-size:.875rem}"
    "tr.unused{color:var(--faint)}"
    "h3+.wide{margin-top:.2rem}summary{cursor:pointer;padding:.2rem 0}"
    ".t{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;margin:0}"
    ".c{color:var(--mark);background:var(--mark-ground);border-radius:.2rem;padding:0 .2rem;"
    "font-size:.75em;unicode-bidi:isolate}"
    ".bad{color:var(--b);font-weight:600}"
    ".answers{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,16rem),1fr));"
    "gap:.7rem;margin:.4rem 0 1.4rem}"
    ".answers>div{background:var(--panel);border-radius:.5rem;padding:.6rem .8rem}"
    ".answers .t{max-height:20rem;overflow:auto}"
    ".answers h4{margin:0 0 .3rem;font-size:.85rem;font-weight:500;color:var(--faint)}"
    ".prompt{border-left:3px solid var(--line);padding-left:.8rem;max-height:16rem;overflow:auto}"
    ".doc{background:var(--panel);border-radius:.5rem;padding:.7rem .9rem;margin:.8rem 0}"
    ".doc h3{margin:0 0 .5rem;font-size:.9rem;font-weight:500;color:var(--faint)}"
    ".turn{display:grid;grid-template-columns:5.5rem 1fr;gap:.6rem;margin:.3rem 0}"
    ".turn>b{color:var(--faint);font-weight:500;font-size:.85rem}"
    "@media(max-width:40rem){.turn{grid-template-columns:1fr;gap:0}}"
    "mark{background:var(--good-ground);color:var(--good);"
    "box-shadow:inset 0 -2px var(--good-line)}"
    ".sp{font-weight:700;direction:ltr;unicode-bidi:isolate}"
    "#tokens:checked~* .t span:not(.c),#tokens:checked~* .t mark{outline:1px solid var(--line);"
    "outline-offset:-1px}#tokens:checked~* .t mark{outline-color:var(--good-line)}"
    "[hidden]{display:none!important}"
    ".find{display:flex;flex-wrap:wrap;gap:.5rem 1.2rem;align-items:center;margin:.4rem 0 .8rem;"
    "position:sticky;top:0;z-index:1;background:var(--ground);padding:.5rem 0}"
    ".find input,.find select{font:inherit;color:inherit;background:var(--panel);"
    "border:1px solid var(--line);border-radius:.3rem;padding:.1rem .4rem;max-width:100%}"
    ".find output{color:var(--faint);margin-left:auto;font-variant-numeric:tabular-nums}"
    ".cut::after{content:attr(title)}.cut{display:block;border-top:2px dashed "
    "var(--b);color:var(--b);font:600 .8rem "
    "system-ui,sans-serif}"
    "@media(max-width:40rem){svg text{font-size:19px}main{padding:1rem .8rem 3rem}}"
    "@media print{.prompt,.answers .t{max-height:none}section{break-inside:avoid-page}}";

/* Where the pointer is over a chart, the values of the nearest step; the tables say the same. */
static const char chart_script[] =
    "document.querySelectorAll('svg[data-x0]').forEach(function(s){"
    "var d=s.dataset,lines=[],f=s.closest('figure'),o=f.querySelector('output'),was=o.textContent,"
    "c=s.querySelector('.cursor');"
    "s.querySelectorAll('[data-p]').forEach(function(g){"
    "lines.push({n:g.dataset.n,p:JSON.parse(g.dataset.p)})});"
    "function near(p,x){var a=0,b=p.length-1;while(b-a>1){var m=(a+b)>>1;"
    "if(p[m][0]<x)a=m;else b=m}return x-p[a][0]<p[b][0]-x?p[a]:p[b]}"
    "s.addEventListener('pointermove',function(e){var r=s.getBoundingClientRect(),"
    "px=(e.clientX-r.left)/r.width*+d.w,x=+d.x0+(px-d.l)/(d.r-d.l)*(d.x1-d.x0),t=[],at=null;"
    "lines.forEach(function(l){if(!l.p.length)return;var q=near(l.p,x);"
    "if(at===null)at=q[0];t.push(l.n+' '+q[1])});"
    "if(at===null)return;o.textContent='step '+at+': '+t.join(', ');"
    "var cx=+d.l+(d.x1>d.x0?(at-d.x0)/(d.x1-d.x0):.5)*(d.r-d.l);c.setAttribute('x1',cx);"
    "c.setAttribute('x2',cx);c.removeAttribute('visibility')});"
    "s.addEventListener('pointerleave',function(){o.textContent=was;"
    "c.setAttribute('visibility','hidden')})});";

/* Documents are matched as they read, without regard to case and white space. */
static const char search_script[] =
    "(function(){function id(s){return document.getElementById('find'+s)}"
    "function plain(s){return s.toLowerCase().replace(/[\\s\\u21b5]+/g,' ')}"
    "var form=id(''),q=id('-text'),src=id('-source'),cut=id('-cut'),copy=id('-copy'),"
    "out=id('-count'),docs=[].slice.call(document.querySelectorAll('article.doc')),texts=[];"
    "function "
    "text(i){if(texts[i]===undefined)texts[i]=plain(docs[i].querySelector('h3').textContent"
    "+' '+[].map.call(docs[i].querySelectorAll('.t'),function(t){return t.textContent}).join(' '));"
    "return texts[i]}"
    "function find(){var want=plain(q.value).trim(),n=0;docs.forEach(function(d,i){"
    "var f=' '+d.dataset.flags+' ',ok=(!src.value||d.dataset.source===src.value)&&"
    "(!cut.checked||f.indexOf(' cut ')>=0)&&(!copy.checked||f.indexOf(' copy ')>=0)&&"
    "(!want||text(i).indexOf(want)>=0);d.hidden=!ok;n+=ok});"
    "out.textContent=n+' of '+docs.length+' documents on this page'}"
    "form.hidden=false;form.addEventListener('input',find);form.addEventListener('change',find);"
    "form.addEventListener('submit',function(e){e.preventDefault()});find()})();";

/* --- text --- */

static void keep(struct html *h, enum status s)
{
    if (s && !h->failed) h->failed = s;
}

void html_put(struct html *h, const char *markup)
{
    if (!h->failed) keep(h, buf_puts(&h->text, markup));
}

void html_format(struct html *h, const char *fmt, ...)
{
    char text[1024];
    va_list list;
    va_start(list, fmt);
    int n = vsnprintf(text, sizeof text, fmt, list);
    va_end(list);
    if (n < 0 || (size_t)n >= sizeof text)
        keep(h, ERR_FORMAT);
    else
        html_put(h, text);
}

int text_is_hidden(uint32_t c)
{
    return (c < 0x20 && c != '\n' && c != '\t') || (c >= 0x7F && c < 0xA0) || c == 0xAD ||
           c == 0x61C || c == 0x200B || c == 0x200E || c == 0x200F ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF ||
           (c >= 0xFFF9 && c <= 0xFFFB) || (c & 0xFFFE) == 0xFFFE || (c >= 0xE0000 && c <= 0xE007F);
}

static const char *entity(unsigned char c)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

static void put_character(struct html *h, const char *p, size_t n, uint32_t c, int in_attribute)
{
    const char *name = n == 1 ? entity((unsigned char)*p) : NULL;
    if (name)
        html_put(h, name);
    else if (!text_is_hidden(c))
        keep(h, buf_append(&h->text, p, n));
    else if (in_attribute)
        html_format(h, "U+%04X", (unsigned)c);
    else
        html_format(h, "<span class=c>U+%04X</span>", (unsigned)c);
}

static void put_escaped(struct html *h, const char *bytes, size_t n, int in_attribute)
{
    for (size_t at = 0; at < n && !h->failed;) {
        uint32_t c;
        int length = utf8_decode((const unsigned char *)bytes + at, n - at, &c);
        if (length < 0) {
            html_put(h, UTF8_REPLACEMENT);
            at += (size_t)-length;
            continue;
        }
        put_character(h, bytes + at, (size_t)length, c, in_attribute);
        at += (size_t)length;
    }
}

void html_text(struct html *h, const char *bytes, size_t n) { put_escaped(h, bytes, n, 0); }

void html_string(struct html *h, const char *s) { put_escaped(h, s, strlen(s), 0); }

void html_attribute(struct html *h, const char *s) { put_escaped(h, s, strlen(s), 1); }

/* --- parts --- */

void html_element(struct html *h, const char *name, const char *text)
{
    html_format(h, "<%s>", name);
    html_string(h, text);
    html_format(h, "</%.*s>", (int)strcspn(name, " "), name);
}

void html_section(struct html *h, const char *heading)
{
    html_put(h, "<section>\n");
    html_element(h, "h2", heading);
    html_put(h, "\n");
}

void html_close(struct html *h) { html_put(h, "</section>\n"); }

void html_tile(struct html *h, const char *label, const char *value, const char *note)
{
    html_put(h, "<div class=tile>");
    html_element(h, "span", label);
    html_element(h, "b", value);
    if (note && note[0]) html_element(h, "span", note);
    html_put(h, "</div>\n");
}

void html_fact(struct html *h, const char *name, const char *value)
{
    html_put(h, "<tr>");
    html_element(h, "th scope=row", name);
    html_put(h, "<td><bdi>");
    html_string(h, value);
    html_put(h, "</bdi></td></tr>\n");
}

void html_table(struct html *h, const char *columns)
{
    html_put(h, "<div class=wide><table><thead><tr>");
    for (const char *at = columns; *at;) {
        int right = *at == '#';
        size_t n = strcspn(at += right, "|");
        html_put(h, right ? "<th scope=col class=n>" : "<th scope=col>");
        html_text(h, at, n);
        html_put(h, "</th>");
        at += n + (at[n] == '|');
    }
    html_put(h, "</tr></thead>\n<tbody>\n");
}

void html_table_end(struct html *h) { html_put(h, "</tbody></table></div>\n"); }

void html_bar(struct html *h, double share)
{
    if (!(share > 0)) share = 0;
    if (share > 1) share = 1;
    html_put(h, "<td class=bar>");
    if (share > 0) html_format(h, "<i style=\"width:%.1f%%\"></i>", 100 * share);
    html_put(h, "</td>");
}

/* --- the frame --- */

void html_begin(struct html *h, const char *title, int scripts)
{
    *h = (struct html){.scripts = scripts};
    buf_init(&h->text, HTML_MAX);
    html_put(h, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                "style-src 'unsafe-inline'");
    html_put(h, scripts ? "; script-src 'unsafe-inline'\">\n" : "\">\n");
    html_put(h, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                "<meta name=\"generator\" content=\"cria " CRIA_VERSION "\">\n");
    html_element(h, "title", title);
    html_put(h, "\n<style>");
    html_put(h, style);
    html_put(h, "</style>\n</head>\n<body>\n<main>\n");
    html_element(h, "h1", title);
    html_put(h, "\n");
}

enum status html_end(struct html *h, struct err *e)
{
    html_put(h, "</main>\n");
    if (h->scripts) html_put(h, "<script>");
    if (h->scripts & HTML_CHARTS) html_put(h, chart_script);
    if (h->scripts & HTML_SEARCH) html_put(h, search_script);
    if (h->scripts) html_put(h, "</script>\n");
    html_put(h, "</body>\n</html>\n");
    return h->failed ? err_set(e, h->failed, "no room for the page") : OK;
}

void html_free(struct html *h) { buf_free(&h->text); }

/* --- numbers for people --- */

const char *text_number(double v, char out[32])
{
    if (isfinite(v) && fabs(v) >= 1e4 && fabs(v) < 1e15) return text_count(llround(v), out);
    snprintf(out, 32, "%.4g", v);
    return out;
}

const char *text_count(int64_t n, char out[32])
{
    char digits[32];
    int length = snprintf(digits, sizeof digits, "%" PRId64, n), at = 0;
    for (int i = 0; i < length && at < 30; i++) {
        int left = length - i;
        if (i && left % 3 == 0 && digits[i - 1] != '-') out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
    return out;
}

const char *text_bytes(double bytes, char out[32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    int unit = 0;
    while (fabs(bytes) >= 999.5 && unit < 5) {
        bytes /= 1000;
        unit++;
    }
    snprintf(out, 32, unit && bytes < 99.95 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return out;
}
