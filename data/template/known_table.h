/* Made by tools/golden/chat_templates.py. */
{"3e3e3b188e247bf9ccc436ea9246cd32", "chatml"},         /* LLaMA-Factory chatml */
    {"db647db217b46504694b5635ceb11420", "chatml"},     /* LLaMA-Factory cpm4 */
    {"1d9edce0052bf768208bf58ba9b4e88c", "chatml"},     /* LLaMA-Factory cpm4 */
    {"3ff0f3e17fb85fc4839df00d0f4ddbe1", "chatml"},     /* TRL qwen3_instruct_2507 */
    {"44274c6c1a73b2fabe0a94ba5f998ad6", "chatml"},     /* TRL qwen3_instruct_2507_training */
    {"911946ecf449609239f7cfe6d19e6f69", "chatml"},     /* TRL qwen3_vl */
    {"c45bc4e81bccf136014398a2806e4597", "chatml"},     /* TRL qwen3_vl_training */
    {"091115a03ef551a0eccf9bc8c7059b96", "llama3"},     /* TRL llama3 */
    {"c27c59fae4bf63676b9fa2b1da1bedf4", "llama3"},     /* TRL llama3_training */
    {"a2f5769b2e3e8fbd78953723417a2235", "llama31"},    /* TRL llama3_1 */
    {"70001e69d826350789315752a6f5ed70", "mistral_v3"}, /* LLaMA-Factory llava_next_mistral */
    {"87fe5ea5a1565f7260a317e08ccc030b", "mistral_v3"}, /* LLaMA-Factory llava_next_mistral */
    {"58113908dfd1cb12ba0e415a53db9fa2", "qwen"},       /* LLaMA-Factory qwen */
    {"87bb6e599f1a5b2a987686e01f283f43", "qwen"},       /* TRL qwen2_5 */
    {"b63bb659f4ab0a58511d0652241ad92d", "qwen"},       /* TRL qwen2_5_training */
