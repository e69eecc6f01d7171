#include "data/template/template.h"

#include <string.h>
#include <strings.h>

/* Prompt formats as SEMANTICS A gives them. Where a source has only one turn (Alpaca, Orca),
 * further turns repeat its form behind `between`. */

#define ALPACA_PLAIN                                                                      \
    "Below is an instruction that describes a task. Write a response that appropriately " \
    "completes the request."
#define ALPACA_INPUT                                                                             \
    "Below is an instruction that describes a task, paired with an input that provides further " \
    "context. Write a response that appropriately completes the request."
#define VICUNA_SYSTEM                                                                              \
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives " \
    "helpful, detailed, and polite answers to the user's questions."

#define FOR_EACH "{% for message in messages %}"
#define END_FOR "{% endfor %}"
#define IF_SYSTEM "{% if message['role'] == 'system' %}"
#define ELIF_USER "{% elif message['role'] in ['user', 'tool'] %}"
#define ELIF_ASSISTANT "{% elif message['role'] == 'assistant' %}"
#define END_IF "{% endif %}"
#define IF_PROMPT "{% if add_generation_prompt %}"

static const struct template templates[] = {
    {
        .name = "alpaca",
        .about = "Stanford Alpaca: instruction, optional input, response",
        .start = "",
        .system = "{content}\n\n",
        .default_system = ALPACA_PLAIN,
        .default_system_input = ALPACA_INPUT,
        .user = "### Instruction:\n{content}\n\n",
        .user_input = "### Instruction:\n{content}\n\n### Input:\n{input}\n\n",
        .between = "\n\n",
        .prompt = "### Response:",
        .reply = "{content}{eos}",
        .tail = "",
        .end = "{eos}",
        .skip_empty_system = 1,
        .jinja = FOR_EACH
        "{% if loop.first and message['role'] != 'system' %}"
        "{{ ('" ALPACA_INPUT "' if message['input'] else '" ALPACA_PLAIN
        "') + '\\n\\n' }}" END_IF IF_SYSTEM
        "{% if message['content'] %}{{ message['content'] + '\\n\\n' }}" END_IF ELIF_USER
        "{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}"
        "{% if message['input'] %}{{ '### Input:\\n' + message['input'] + '\\n\\n' }}" END_IF
            ELIF_ASSISTANT "{{ '### Response:' + message['content'] + eos_token }}"
        "{% if not loop.last %}{{ '\\n\\n' }}" END_IF END_IF END_FOR IF_PROMPT
        "{{ '### Response:' }}" END_IF,
    },
    {
        .name = "vicuna",
        .about = "Vicuna v1.1: USER: ... ASSISTANT: ...",
        .start = "",
        .system = "{content} ",
        .default_system = VICUNA_SYSTEM,
        .user = "USER: {content} ",
        .between = "",
        .prompt = "ASSISTANT:",
        .reply = " {content}{eos}",
        .tail = "",
        .end = "{eos}",
        .skip_empty_system = 1,
        .jinja =
            FOR_EACH "{% if loop.first and message['role'] != 'system' %}"
                     "{{ \"" VICUNA_SYSTEM " \" }}" END_IF IF_SYSTEM
                     "{% if message['content'] %}{{ message['content'] + ' ' }}" END_IF ELIF_USER
                     "{{ 'USER: ' + message['content'] + ' ' }}" ELIF_ASSISTANT
                     "{{ 'ASSISTANT: ' + message['content'] + eos_token }}" END_IF END_FOR IF_PROMPT
                     "{{ 'ASSISTANT:' }}" END_IF,
    },
    {
        .name = "llama2",
        .about = "Llama-2 chat: [INST] ... [/INST]",
        .start = "",
        .system = "<<SYS>>\n{content}\n<</SYS>>\n\n",
        .user = "{bos}[INST] {content} [/INST]",
        .between = "",
        .prompt = "",
        .reply = " {content} {eos}",
        .tail = "",
        .end = "{eos}",
        .strip = 1,
        .system_in_user = 1,
        .jinja =
            "{% set ns = namespace(system='') %}" FOR_EACH IF_SYSTEM
            "{% set ns.system = '<<SYS>>\\n' + message['content'] + '\\n<</SYS>>\\n\\n' "
            "%}" ELIF_USER
            "{{ bos_token + '[INST] ' + (ns.system + message['content']) | trim + ' [/INST]' }}"
            "{% set ns.system = '' %}" ELIF_ASSISTANT
            "{{ ' ' + message['content'] | trim + ' ' + eos_token }}" END_IF END_FOR,
    },
    {
        .name = "llama3",
        .about = "Llama-3 instruct: headers and <|eot_id|>",
        .start = "{bos}",
        .system = "{<|start_header_id|>}system{<|end_header_id|>}\n\n{content}{<|eot_id|>}",
        .user = "{<|start_header_id|>}user{<|end_header_id|>}\n\n{content}{<|eot_id|>}",
        .tool = "{<|start_header_id|>}ipython{<|end_header_id|>}\n\n{content}{<|eot_id|>}",
        .between = "",
        .prompt = "{<|start_header_id|>}assistant{<|end_header_id|>}\n\n",
        .reply = "{content}{<|eot_id|>}",
        .tail = "",
        .end = "{<|eot_id|>}",
        .strip = 1,
        .jinja = "{{ bos_token }}" FOR_EACH
                 "{{ '<|start_header_id|>' + ('ipython' if message['role'] == 'tool' else "
                 "message['role']) + '<|end_header_id|>\\n\\n' + "
                 "message['content'] | trim + '<|eot_id|>' }}" END_FOR IF_PROMPT
                 "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}" END_IF,
    },
    {
        .name = "chatml",
        .about = "ChatML: <|im_start|>role ... <|im_end|>",
        .start = "",
        .system = "{<|im_start|>}system\n{content}{<|im_end|>}\n",
        .user = "{<|im_start|>}user\n{content}{<|im_end|>}\n",
        .tool = "{<|im_start|>}tool\n{content}{<|im_end|>}\n",
        .between = "",
        .prompt = "{<|im_start|>}assistant\n",
        .reply = "{content}{<|im_end|>}",
        .tail = "\n",
        .end = "{<|im_end|>}",
        .jinja = FOR_EACH "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
                          "'<|im_end|>\\n' }}" END_FOR IF_PROMPT
                          "{{ '<|im_start|>assistant\\n' }}" END_IF,
    },
    {
        .name = "zephyr",
        .about = "Zephyr: <|user|> ... </s>",
        .start = "",
        .system = "<|system|>\n{content}{eos}\n",
        .user = "<|user|>\n{content}{eos}\n",
        .tool = "<|tool|>\n{content}{eos}\n",
        .between = "",
        .prompt = "<|assistant|>\n",
        .reply = "{content}{eos}",
        .tail = "\n",
        .end = "{eos}",
        .jinja = FOR_EACH "{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + "
                          "'\\n' }}" END_FOR IF_PROMPT "{{ '<|assistant|>\\n' }}" END_IF,
    },
    {
        .name = "orca",
        .about = "Orca, StableBeluga: ### System, ### User, ### Assistant",
        .start = "",
        .system = "### System:\n{content}\n\n",
        .user = "### User:\n{content}\n\n",
        .between = "\n\n",
        .prompt = "### Assistant:\n",
        .reply = "{content}{eos}",
        .tail = "",
        .end = "{eos}",
        .jinja = FOR_EACH IF_SYSTEM
        "{{ '### System:\\n' + message['content'] + '\\n\\n' }}" ELIF_USER
        "{{ '### User:\\n' + message['content'] + '\\n\\n' }}" ELIF_ASSISTANT
        "{{ '### Assistant:\\n' + message['content'] + eos_token }}"
        "{% if not loop.last %}{{ '\\n\\n' }}" END_IF END_IF END_FOR IF_PROMPT
        "{{ '### Assistant:\\n' }}" END_IF,
    },
    {
        .name = "solar",
        .about = "SOLAR: as orca, an empty system left out, nothing between turns",
        .start = "",
        .system = "### System:\n{content}\n\n",
        .user = "### User:\n{content}\n\n",
        .between = "",
        .prompt = "### Assistant:\n",
        .reply = "{content}{eos}",
        .tail = "",
        .end = "{eos}",
        .skip_empty_system = 1,
        .jinja = FOR_EACH IF_SYSTEM
        "{% if message['content'] %}{{ '### System:\\n' + message['content'] + '\\n\\n' }}" END_IF
            ELIF_USER "{{ '### User:\\n' + message['content'] + '\\n\\n' }}" ELIF_ASSISTANT
        "{{ '### Assistant:\\n' + message['content'] + eos_token }}" END_IF END_FOR IF_PROMPT
        "{{ '### Assistant:\\n' }}" END_IF,
    },
};
enum { NUM_TEMPLATES = sizeof templates / sizeof *templates };

const struct template *template_at(size_t i) { return i < NUM_TEMPLATES ? &templates[i] : NULL; }

const struct template *template_find(const char *name)
{
    static const char *const spellings[][2] = {
        {"llama-2", "llama2"},     {"llama-3", "llama3"}, {"vicuna_v1.1", "vicuna"},
        {"stable-beluga", "orca"}, {"freewilly", "orca"}, {"llama2_chat", "llama2"},
        {"stablebeluga", "orca"},
    };
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++)
        if (!strcasecmp(name, spellings[i][0])) name = spellings[i][1];
    for (size_t i = 0; i < NUM_TEMPLATES; i++)
        if (!strcasecmp(name, templates[i].name)) return &templates[i];
    return NULL;
}
