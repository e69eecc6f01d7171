#include "words.h"

#include <stddef.h>

#define WORDS(name, ...)                                     \
    static const char *const name##_items[] = {__VA_ARGS__}; \
    const struct words words_##name = {name##_items, sizeof name##_items / sizeof *name##_items};

/* clang-format off */
WORDS(people, "Tom", "Ann", "Bob", "Mary", "Jack", "Lily", "Sam", "Rose", "Ben", "Emma", "Max",
      "Lucy", "Dan", "Kate", "Leo", "Nina", "Paul", "Sara", "Mike", "Carla", "Tim", "Jane", "Fred",
      "Ella", "Hugo", "Ruth", "Carl", "Vera", "Otto", "Maya", "Ivan", "Nora", "Luke", "Iris",
      "Adam", "Gina", "Noah", "Olga", "Eric", "Tina")
WORDS(cities, "Paris", "London", "Rome", "Berlin", "Madrid", "Vienna", "Oslo", "Cairo", "Lima",
      "Quito", "Tokyo", "Delhi", "Boston", "Dublin", "Prague", "Athens", "Lisbon", "Warsaw",
      "Cusco", "Havana", "Seoul", "Hanoi", "Dallas", "Denver", "Milan", "Naples", "Geneva",
      "Zurich", "Bergen", "Porto")
WORDS(jobs, "baker", "doctor", "teacher", "farmer", "sailor", "painter", "singer", "driver",
      "writer", "nurse", "lawyer", "miner", "tailor", "barber", "pilot", "cook", "judge", "guard",
      "poet", "shepherd")
WORDS(colors, "red", "blue", "green", "yellow", "black", "white", "brown", "pink", "grey",
      "purple", "golden", "beige")
WORDS(objects, "hat", "coat", "car", "boat", "bike", "house", "cup", "lamp", "chair", "book",
      "bag", "ball", "kite", "door", "table", "pen", "scarf", "tent", "clock", "drum")
WORDS(food, "bread", "rice", "soup", "cheese", "fish", "apples", "pears", "honey", "cake", "eggs",
      "beans", "corn", "pasta", "plums", "nuts")
WORDS(pets, "cat", "dog", "horse", "parrot", "rabbit", "turtle", "goat", "duck", "mouse", "snake",
      "hen", "frog", "pony", "llama", "lamb")
WORDS(listed, "river", "stone", "forest", "window", "garden", "bridge", "candle", "mirror",
      "ladder", "bottle", "pepper", "silver", "button", "ocean", "mountain", "valley", "feather",
      "blanket", "hammer", "needle", "ribbon", "basket", "pillow", "rocket", "engine", "piano",
      "violin", "trumpet", "castle", "tower", "market", "village", "island", "desert", "winter",
      "summer", "spring", "autumn", "thunder", "cloud", "rain", "snow", "wind", "fire", "leaf",
      "root", "seed", "grass", "sand", "moon", "star", "storm", "harbor", "meadow")
WORDS(filler, "below", "is", "an", "instruction", "that", "describes", "a", "task", "paired",
      "with", "input", "provides", "further", "context", "write", "response", "appropriately",
      "completes", "the", "request", "what", "where", "which", "who", "how", "give", "name",
      "repeat", "copy", "list", "word", "words", "text", "same", "city", "color", "job", "home",
      "live", "does", "work", "as", "question", "answer", "line", "page", "letter", "note", "story",
      "time", "day", "way", "place", "thing", "of", "in", "on", "at", "to", "and", "or", "it", "he",
      "she", "they", "we", "you", "this", "these", "was", "are", "were", "can", "may", "will",
      "not", "very", "good", "long", "short", "small", "great", "old", "young", "first", "last",
      "next", "again", "then", "so", "but")
/* clang-format on */

const char *words_any(struct draw *d, const struct words *w)
{
    return w->items[draw_below(d, w->n)];
}

const char *words_of_any_kind(struct draw *d)
{
    static const struct words *const kinds[] = {
        &words_people,  &words_cities, &words_jobs, &words_colors,
        &words_objects, &words_food,   &words_pets, &words_listed,
    };
    int total = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) total += kinds[i]->n;
    int at = draw_below(d, total);
    size_t kind = 0;
    while (at >= kinds[kind]->n) at -= kinds[kind++]->n;
    return kinds[kind]->items[at];
}
