#include "data/formats/trees.h"

#include <stdint.h>
#include <string.h>

#include "data/formats/fields.h"

#define NO_NODE SIZE_MAX
#define NODES_MAX ((size_t)1 << 24)

/* A message of the tree; indices into the list of nodes. */
struct node {
    const json_t *message;
    size_t parent, first, next; /* first reply, next reply of the same message */
};

/* What stands in conversation.tree before the nodes. */
struct tree {
    size_t num_nodes, root;
    size_t leaf; /* where the next conversation ends; */
    size_t from; /* and its first message that no conversation before had */
    size_t used; /* messages in conversations so far */
    size_t turns;
};

static struct tree *tree_of(const struct conversation *c) { return (struct tree *)c->tree.data; }

static struct node *nodes_of(const struct conversation *c)
{
    return (struct node *)(c->tree.data + sizeof(struct tree));
}

static int is_deleted(const json_t *message)
{
    return json_is_true(json_object_get(message, "deleted"));
}

/* ---- building ---- */

static enum status no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for a tree of messages");
}

static enum status add_node(struct conversation *c, const json_t *message, size_t parent,
                            struct err *e)
{
    const struct node node = {message, parent, NO_NODE, NO_NODE};
    if (!json_is_object(message)) return err_set(e, ERR_FORMAT, "a message is no object");
    if (buf_append(&c->tree, &node, sizeof node)) return no_memory(e);
    tree_of(c)->num_nodes++;
    return OK;
}

/* A message and all below it, level by level. */
static enum status add_nested(struct conversation *c, const json_t *root, struct err *e)
{
    TRY(add_node(c, root, NO_NODE, e));
    for (size_t i = 0; i < tree_of(c)->num_nodes; i++) {
        const json_t *replies = json_object_get(nodes_of(c)[i].message, "replies");
        if (replies && !json_is_null(replies) && !json_is_array(replies))
            return err_set(e, ERR_FORMAT, "\"replies\" is no list");
        for (size_t k = 0; k < json_array_size(replies); k++)
            TRY(add_node(c, json_array_get(replies, k), i, e));
    }
    return OK;
}

/* Messages that name their parents; the first of those that name none is the root. */
static enum status link_flat(struct conversation *c, json_t *numbers, struct err *e)
{
    struct tree *t = tree_of(c);
    struct node *nodes = nodes_of(c);
    for (size_t i = 0; i < t->num_nodes; i++) {
        const char *id = json_string_value(json_object_get(nodes[i].message, "message_id"));
        if (id && json_object_set_new(numbers, id, json_integer((json_int_t)i)))
            return no_memory(e);
    }
    t->root = NO_NODE;
    for (size_t i = 0; i < t->num_nodes; i++) {
        const char *parent = json_string_value(json_object_get(nodes[i].message, "parent_id"));
        const json_t *at = parent ? json_object_get(numbers, parent) : NULL;
        if (at) nodes[i].parent = (size_t)json_integer_value(at);
        if (!parent && t->root == NO_NODE) t->root = i;
    }
    return OK;
}

static enum status add_flat(struct conversation *c, const json_t *messages, struct err *e)
{
    json_t *numbers = json_object();
    enum status s = numbers ? OK : no_memory(e);
    for (size_t i = 0; !s && i < json_array_size(messages); i++)
        s = add_node(c, json_array_get(messages, i), NO_NODE, e);
    if (!s) s = link_flat(c, numbers, e);
    json_decref(numbers);
    return s;
}

/* Each message's replies in the order of the file, without the deleted ones. */
static void link_replies(struct conversation *c)
{
    struct node *nodes = nodes_of(c);
    for (size_t i = tree_of(c)->num_nodes; i-- > 0;) {
        struct node *n = &nodes[i];
        if (n->parent == NO_NODE || i == tree_of(c)->root || is_deleted(n->message)) continue;
        n->next = nodes[n->parent].first;
        nodes[n->parent].first = i;
    }
}

static enum status build(const json_t *record, struct conversation *c, struct err *e)
{
    const struct tree none = {0};
    const json_t *prompt = json_object_get(record, "prompt");
    const json_t *messages = json_object_get(record, "messages");
    if (!c->tree.max) buf_init(&c->tree, sizeof none + NODES_MAX * sizeof(struct node));
    buf_clear(&c->tree);
    if (buf_append(&c->tree, &none, sizeof none)) return no_memory(e);
    if (json_is_array(messages))
        TRY(add_flat(c, messages, e));
    else
        TRY(add_nested(c, json_is_object(prompt) ? prompt : record, e));
    link_replies(c);
    return OK;
}

/* ---- paths ---- */

/* The turns from the root to a message; those before `from` are not trained. */
static enum status add_path(struct conversation *c, size_t leaf, size_t from, struct err *e)
{
    const struct node *nodes = nodes_of(c);
    size_t depth = 0, shared = 0;
    for (size_t i = leaf; i != NO_NODE; i = nodes[i].parent) depth++;
    for (size_t i = nodes[from].parent; i != NO_NODE; i = nodes[i].parent) shared++;
    if ((tree_of(c)->turns += depth) > TREE_TURNS_MAX) {
        err_set(e, ERR_FORMAT, "the tree's conversations come to more than %zu turns",
                TREE_TURNS_MAX);
        return err_hint(e, "format: oasst takes the best one alone");
    }
    tree_of(c)->used += depth - shared;
    for (size_t k = 0; k < depth; k++) TRY(record_add(c, ROLE_USER, (struct text){"", 0}, e));
    for (size_t i = leaf, k = depth; k-- > 0; i = nodes[i].parent) {
        struct text name;
        struct turn *turn = &c->turns[k];
        TRY(record_field(nodes[i].message, "role", 1, &name, e));
        TRY(record_field(nodes[i].message, "text", 1, &turn->text, e));
        if (!role_find(name, &turn->role)) c->drop = DROP_UNKNOWN_ROLE;
        if (k < shared && turn->role == ROLE_ASSISTANT) turn->weight = 0;
    }
    return OK;
}

/* Lower is better. */
static double rank_of(const struct node *n)
{
    const json_t *rank = json_object_get(n->message, "rank");
    return json_is_number(rank) ? json_number_value(rank) : 1e300;
}

static size_t best_reply(const struct node *nodes, size_t i)
{
    size_t best = nodes[i].first;
    for (size_t k = best; k != NO_NODE; k = nodes[k].next)
        if (rank_of(&nodes[k]) < rank_of(&nodes[best])) best = k;
    return best;
}

static size_t first_leaf(const struct node *nodes, size_t i)
{
    while (nodes[i].first != NO_NODE) i = nodes[i].first;
    return i;
}

/* Whether a reply is among the messages from `from` down to `leaf`. */
static int has_reply(const struct node *nodes, size_t from, size_t leaf)
{
    for (size_t i = leaf;; i = nodes[i].parent) {
        const char *name = json_string_value(json_object_get(nodes[i].message, "role"));
        enum role role;
        if (name && role_find((struct text){name, strlen(name)}, &role) && role == ROLE_ASSISTANT)
            return 1;
        if (i == from) return 0;
    }
}

/* The next leaf whose path has a reply that no path before had; 0: there is none. */
static int next_path(struct conversation *c)
{
    struct tree *t = tree_of(c);
    const struct node *nodes = nodes_of(c);
    size_t i = t->leaf;
    for (;;) {
        while (i != NO_NODE && nodes[i].next == NO_NODE) i = nodes[i].parent;
        if (i == NO_NODE) return 0;
        t->from = nodes[i].next;
        t->leaf = i = first_leaf(nodes, t->from);
        if (has_reply(nodes, t->from, t->leaf)) return 1;
    }
}

/* ---- the rows ---- */

int detect_oasst(const json_t *r)
{
    const json_t *prompt = json_object_get(r, "prompt");
    const json_t *root = json_is_object(prompt) ? prompt : r;
    if (!json_is_string(json_object_get(root, "text"))) return 0;
    if (!json_is_string(json_object_get(root, "role"))) return 0;
    if (root == prompt) return 4;
    return json_is_array(json_object_get(r, "replies")) || json_object_get(r, "message_id") ? 3 : 0;
}

int detect_oasst_all(const json_t *r)
{
    (void)r;
    return 0;
}

/* Whether there is anything to take; else c->drop says why not. */
static int has_root(struct conversation *c)
{
    struct tree *t = tree_of(c);
    if (t->num_nodes && t->root != NO_NODE && !is_deleted(nodes_of(c)[t->root].message)) return 1;
    c->drop = DROP_NO_PROMPT;
    return 0;
}

enum status convert_oasst(const json_t *r, struct conversation *c, struct err *e)
{
    TRY(build(r, c, e));
    if (!has_root(c)) return OK;
    const struct tree *t = tree_of(c);
    size_t leaf = t->root;
    for (size_t next = leaf; next != NO_NODE; next = best_reply(nodes_of(c), leaf)) leaf = next;
    TRY(add_path(c, leaf, t->root, e));
    c->left_out = t->num_nodes - t->used;
    return OK;
}

enum status convert_oasst_all(const json_t *r, struct conversation *c, struct err *e)
{
    if (!c->part) {
        TRY(build(r, c, e));
        if (!has_root(c)) return OK;
        tree_of(c)->from = tree_of(c)->root;
        tree_of(c)->leaf = first_leaf(nodes_of(c), tree_of(c)->root);
    }
    TRY(add_path(c, tree_of(c)->leaf, tree_of(c)->from, e));
    c->more = next_path(c);
    c->left_out = tree_of(c)->num_nodes - tree_of(c)->used;
    return OK;
}
