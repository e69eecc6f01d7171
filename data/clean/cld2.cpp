#include "data/clean/cld2.h"

#include <cstddef>
#include <cstdio>

#include <cld2/public/compact_lang_det.h>
#include <cld2/public/encodings.h>

extern "C" const char *cld2_detect(const char *text, int size, int best_effort, int *sure)
{
    CLD2::CLDHints hints = {NULL, NULL, CLD2::UNKNOWN_ENCODING, CLD2::UNKNOWN_LANGUAGE};
    CLD2::Language languages[3];
    int percents[3], bytes = 0, valid = 0;
    double scores[3];
    bool reliable = false;
    CLD2::ExtDetectLanguageSummaryCheckUTF8(text, size, false, &hints,
                                            best_effort ? CLD2::kCLDFlagBestEffort : 0, languages,
                                            percents, scores, NULL, &bytes, &reliable, &valid);
    *sure = reliable;
    return valid < size ? NULL : CLD2::LanguageCode(languages[0]);
}

extern "C" int cld2_exists(const char *code)
{
    return CLD2::GetLanguageFromName(code) != CLD2::UNKNOWN_LANGUAGE;
}
