#include <string.h>

#include "base/mem.h"
#include "data/clean/entities.h"
#include "data/clean/page_build.h"

static const char *const tag_names[NUM_HTML_TAGS] = {NULL,
#define X(name) #name,
                                                     HTML_TAG_TABLE(X)
#undef X
};
static const char *const attribute_names[NUM_HTML_ATTRIBUTES] = {"alt", "href", "src", "start",
                                                                 "title"};

static int is_void(enum page_tag t)
{
    return t == HTML_br || t == HTML_hr || t == HTML_img || t >= HTML_area;
}

static int keeps_space(enum page_tag t) { return t == HTML_pre || t == HTML_textarea; }

/* ---- the tree ---- */

void page_free(struct page *h)
{
    mem_free(h->nodes);
    mem_free(h->attributes);
    buf_free(&h->text);
    *h = (struct page){0};
}

struct text page_text(const struct page *h, const struct page_node *node)
{
    return (struct text){h->text.data + node->at, node->n};
}

struct text page_attribute(const struct page *h, const struct page_node *node,
                           enum page_attribute name)
{
    struct text found = {"", 0};
    for (int32_t i = node->attributes; i >= 0; i = h->attributes[i].next)
        if (h->attributes[i].name == name)
            return (struct text){h->text.data + h->attributes[i].at, h->attributes[i].n};
    return found;
}

void page_unlink(struct page *h, int32_t node)
{
    struct page_node *x = &h->nodes[node];
    if (x->prev >= 0)
        h->nodes[x->prev].next = x->next;
    else
        h->nodes[x->parent].first = x->next;
    if (x->next >= 0)
        h->nodes[x->next].prev = x->prev;
    else
        h->nodes[x->parent].last = x->prev;
}

static enum status put_text(struct page *h, struct text t, size_t *at)
{
    *at = h->text.len;
    enum status s = buf_append(&h->text, t.data, t.n);
    return s == ERR_FORMAT ? ERR_DATA : s;
}

/* A new last child of the current element. */
static enum status add_node(struct page_builder *b, enum page_kind kind, struct text content,
                            int32_t *out)
{
    struct page *h = b->html;
    if (h->num_nodes == HTML_NODES_MAX) return ERR_DATA;
    if (h->num_nodes == h->cap_nodes) {
        size_t cap = h->cap_nodes ? 2 * h->cap_nodes : 64;
        struct page_node *p = mem_resize(h->nodes, cap, sizeof *p);
        if (!p) return ERR_MEMORY;
        h->nodes = p;
        h->cap_nodes = cap;
    }
    int32_t id = (int32_t)h->num_nodes, parent = b->current;
    struct page_node x = {parent, -1, -1, -1, -1, -1, HTML_OTHER, kind, 0, content.n};
    TRY(put_text(h, content, &x.at));
    if (parent >= 0) {
        x.prev = h->nodes[parent].last;
        h->nodes[parent].last = id;
        if (x.prev >= 0)
            h->nodes[x.prev].next = id;
        else
            h->nodes[parent].first = id;
    }
    h->nodes[h->num_nodes++] = x;
    *out = id;
    return OK;
}

/* ---- text ---- */

/* A run of nothing but white space counts as one character, outside of pre. */
static struct text collapse(const struct page_builder *b)
{
    struct text t = {b->data.len ? b->data.data : "", b->data.len};
    if (b->pre) return t;
    for (size_t i = 0; i < t.n; i++)
        if (!strchr(" \n\t\f\r", t.data[i]) || !t.data[i]) return t;
    return (struct text){t.n && memchr(t.data, '\n', t.n) ? "\n" : " ", 1};
}

static enum status end_data(struct page_builder *b, enum page_kind kind)
{
    int32_t id;
    if (!b->has_data) return OK;
    enum status s = add_node(b, kind, collapse(b), &id);
    buf_clear(&b->data);
    b->has_data = 0;
    return s;
}

enum status page_build_data(struct page_builder *b, struct text piece)
{
    b->has_data = 1;
    enum status s = buf_append(&b->data, piece.data, piece.n);
    return s == ERR_FORMAT ? ERR_DATA : s;
}

enum status page_build_node(struct page_builder *b, enum page_kind kind, struct text content)
{
    TRY(end_data(b, HTML_TEXT));
    TRY(page_build_data(b, content));
    return end_data(b, kind);
}

/* ---- elements ---- */

static enum page_tag tag_of(struct text name)
{
    for (int i = 1; i < NUM_HTML_TAGS; i++)
        if (strlen(tag_names[i]) == name.n && !memcmp(tag_names[i], name.data, name.n))
            return (enum page_tag)i;
    return HTML_OTHER;
}

enum status page_build_start(struct page_builder *b, struct text name, enum page_tag *tag)
{
    TRY(end_data(b, HTML_TEXT));
    if (b->depth == HTML_DEPTH_MAX) return ERR_DATA;
    int32_t id;
    TRY(add_node(b, HTML_ELEMENT, name, &id));
    *tag = tag_of(name);
    b->html->nodes[id].tag = (uint16_t)*tag;
    b->current = id;
    b->depth++;
    b->pre += keeps_space(*tag);
    return OK;
}

/* Puts an attribute before those that are there, so that the last one of a name is found. */
static enum status add_attribute(struct page_builder *b, enum page_attribute name,
                                 struct text value)
{
    struct page *h = b->html;
    struct page_node *node = &h->nodes[b->current];
    if (h->num_attributes == HTML_NODES_MAX) return ERR_DATA;
    if (h->num_attributes == h->cap_attributes) {
        size_t cap = h->cap_attributes ? 2 * h->cap_attributes : 16;
        struct page_value *p = mem_resize(h->attributes, cap, sizeof *p);
        if (!p) return ERR_MEMORY;
        h->attributes = p;
        h->cap_attributes = cap;
    }
    struct page_value v = {name, node->attributes, h->text.len, 0};
    enum status s = entity_put_unescaped(&h->text, value);
    if (s) return s == ERR_FORMAT ? ERR_DATA : s;
    v.n = h->text.len - v.at;
    node->attributes = (int32_t)h->num_attributes;
    h->attributes[h->num_attributes++] = v;
    return OK;
}

enum status page_build_attribute(struct page_builder *b, struct text name, struct text value)
{
    for (int i = 0; i < NUM_HTML_ATTRIBUTES; i++)
        if (strlen(attribute_names[i]) == name.n &&
            !strncasecmp(attribute_names[i], name.data, name.n))
            return add_attribute(b, (enum page_attribute)i, value);
    return OK;
}

/* Closes the innermost open element of that name and all within it; none is open: nothing. */
static void pop_to(struct page_builder *b, struct text name)
{
    const struct page *h = b->html;
    int32_t id = b->current;
    while (id > 0 && !text_same(page_text(h, &h->nodes[id]), name)) id = h->nodes[id].parent;
    if (id <= 0) return;
    for (int32_t last = -1; last != id;) {
        last = b->current;
        b->pre -= keeps_space(h->nodes[last].tag);
        b->depth--;
        b->current = h->nodes[last].parent;
    }
}

enum status page_build_opened(struct page_builder *b, struct text name, int slash)
{
    enum page_tag tag = b->html->nodes[b->current].tag;
    if (slash) return page_build_stop(b, name);
    if (!is_void(tag)) return OK;
    pop_to(b, name);
    b->closed[tag]++;
    return OK;
}

enum status page_build_stop(struct page_builder *b, struct text name)
{
    enum page_tag tag = tag_of(name);
    if (is_void(tag) && b->closed[tag]) {
        b->closed[tag]--;
        return OK;
    }
    TRY(end_data(b, HTML_TEXT));
    pop_to(b, name);
    return OK;
}

/* ---- the whole ---- */

enum status page_build_begin(struct page_builder *b, struct page *h)
{
    int32_t root;
    *b = (struct page_builder){.html = h, .current = -1};
    if (!h->text.max) buf_init(&h->text, HTML_TEXT_MAX);
    buf_init(&b->data, HTML_TEXT_MAX);
    buf_clear(&h->text);
    h->num_nodes = h->num_attributes = 0;
    TRY(add_node(b, HTML_ELEMENT, (struct text){"", 0}, &root));
    b->current = root;
    return OK;
}

enum status page_build_end(struct page_builder *b) { return end_data(b, HTML_TEXT); }

void page_build_free(struct page_builder *b) { buf_free(&b->data); }
