#include "data/formats/names.h"

#include <string.h>

/* What can be called otherwise, the row's name for it, and where it is found. */
static const struct {
    const char *name, *plain, *sharegpt;
    enum { RECORD, MESSAGE, ROLE } place;
} known[] = {
    {"field_instruction", "instruction", "instruction", RECORD},
    {"field_input", "input", "input", RECORD},
    {"field_output", "output", "output", RECORD},
    {"field_system", "system", "system", RECORD},
    {"field_history", "history", "history", RECORD},
    {"field_context", "context", "context", RECORD},
    {"field_question", "question", "question", RECORD},
    {"field_response", "response", "response", RECORD},
    {"field_prompt", "prompt", "prompt", RECORD},
    {"field_completion", "completion", "completion", RECORD},
    {"field_text", "text", "text", RECORD},
    {"field_messages", "messages", "conversations", RECORD},
    {"field_tools", "tools", "tools", RECORD},
    {"field_chosen", "chosen", "chosen", RECORD},
    {"field_rejected", "rejected", "rejected", RECORD},
    {"field_label", "label", "label", RECORD},
    {"field_role", "role", "from", MESSAGE},
    {"field_content", "content", "value", MESSAGE},
    {"field_weight", "weight", "weight", MESSAGE},
    {"role_system", "system", "system", ROLE},
    {"role_user", "user", "user", ROLE},
    {"role_assistant", "assistant", "assistant", ROLE},
    {"role_tool", "tool", "tool", ROLE},
};
enum { NUM_KNOWN = sizeof known / sizeof *known };

static int find(const char *name)
{
    for (int i = 0; i < NUM_KNOWN; i++)
        if (!strcmp(known[i].name, name)) return i;
    return -1;
}

int format_name_known(const char *ours) { return find(ours) >= 0; }

const char *format_name_at(size_t i) { return i < NUM_KNOWN ? known[i].name : NULL; }

static enum status no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for a record");
}

/* The member of one name gets another; what had that one goes. */
static enum status rename_member(json_t *object, const char *from, const char *to, struct err *e)
{
    json_t *value = json_object_get(object, from);
    if (!strcmp(from, to)) return OK;
    if (!value) {
        json_object_del(object, to);
        return OK;
    }
    json_incref(value);
    json_object_del(object, from);
    return json_object_set_new(object, to, value) ? no_memory(e) : OK;
}

static enum status rename_role(json_t *message, const char *key, const char *from, const char *to,
                               struct err *e)
{
    const char *role = json_string_value(json_object_get(message, key));
    if (!role || strcmp(role, from) != 0) return OK;
    return json_object_set_new(message, key, json_string(to)) ? no_memory(e) : OK;
}

static enum status rename_fields(const struct format_names *names, int sharegpt, int place,
                                 json_t *object, struct err *e)
{
    for (size_t i = 0; i < names->n; i++) {
        int k = find(names->items[i].ours);
        if (k < 0 || (int)known[k].place != place) continue;
        const char *ours = sharegpt ? known[k].sharegpt : known[k].plain;
        TRY(rename_member(object, names->items[i].theirs, ours, e));
    }
    return OK;
}

static enum status rename_message(const struct format_names *names, int sharegpt, json_t *message,
                                  struct err *e)
{
    if (!json_is_object(message)) return OK;
    TRY(rename_fields(names, sharegpt, MESSAGE, message, e));
    for (size_t i = 0; i < names->n; i++) {
        int k = find(names->items[i].ours);
        if (k >= 0 && known[k].place == ROLE)
            TRY(rename_role(message, sharegpt ? "from" : "role", names->items[i].theirs,
                            known[k].plain, e));
    }
    return OK;
}

static enum status rename_messages(const struct format_names *names, int sharegpt, json_t *list,
                                   struct err *e)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY(rename_message(names, sharegpt, json_array_get(list, i), e));
    return OK;
}

enum status format_rename(const struct format_names *names, int sharegpt, json_t *record,
                          struct err *e)
{
    const char *key;
    json_t *value;
    if (!names || !names->n) return OK;
    TRY(rename_fields(names, sharegpt, RECORD, record, e));
    json_object_foreach(record, key, value)
    {
        if (json_is_array(value)) TRY(rename_messages(names, sharegpt, value, e));
        if (!json_is_object(value)) continue;
        TRY(rename_message(names, sharegpt, value, e));
        TRY(rename_messages(names, sharegpt, json_object_get(value, "messages"), e));
    }
    return OK;
}
