"""Photographs of named objects, cut out by the artists of Debian's tuxpaint-stamps-default (GPL-2); none is committed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compose import CACHE, Pixels, cut_margin
from debian import read_picture, unpacked

STAMPS = ("tuxpaint-stamps-default", "usr/share/tuxpaint/stamps")

# Name -> photographs of it, under the stamps' folder.
OBJECTS: Mapping[str, tuple[str, ...]] = {
    name.replace("_", " "): tuple(f"{folder}/{stem}.png" for stem in stems.split())
    for folder, names in {
        "animals/amphibians": {"frog": "frog frog-1"},
        "animals/birds": {
            "chicken": "chicken_profile hen",
            "rooster": "rooster",
            "crow": "crow",
            "crowned_crane": "crowned_crane",
            "duck": "drake duck",
            "goose": "gander",
            "guinea_fowl": "guineafowl helmeted_guineafowl",
            "great_blue_heron": "heron_greatblue heron_greatblue_flying",
            "lark": "lark",
            "penguin": "little-penguin magellanic_penguin penguin",
            "ostrich": "nandou ostrich",
            "owl": "owl",
            "pelican": "pelican",
            "pigeon": "pigeon",
            "flamingo": "pink_flamingo",
            "rainbow_lorikeet": "rainbow-lorikeet",
            "seagull": "seagull silver-gull",
            "toucan": "tucan",
            "turkey": "turkey",
            "vulture": "vulture",
        },
        "animals/fish": {
            "butterflyfish": "butterflyfish",
            "lionfish": "lionfish",
            "seahorse": "seahorse",
            "coral_trout": "coraltrout",
        },
        "animals/insects": {
            "slug": "Brown_slug",
            "woodlouse": "Woodlouse",
            "grasshopper": "grasshopper",
            "hornet": "hornet hoverfly",
            "mantis": "mantis",
            "moth": "xanthia",
        },
        "animals/mammals": {
            "badger": "badger",
            "ferret": "ferret",
            "giraffe": "giraffe",
            "hippopotamus": "hippopotamus",
            "pig": "pig pig_golden pig_golden2",
            "rhinoceros": "rhino_black",
            "wild_boar": "wildboar",
            "elephant": "elephant",
        },
        "animals/mammals/apes": {"chimpanzee": "chimp", "gorilla": "gorilla", "emperor_tamarin": "tamarin_emperor"},
        "animals/mammals/aquatic": {"dolphin": "dolphin", "orca": "orca", "otter": "otter", "sea_lion": "sea_lion"},
        "animals/mammals/bears": {"bear": "bear european-bear"},
        "animals/mammals/bears/toys": {"teddy_bear": "edward_bear"},
        "animals/mammals/bovines": {
            "bison": "bison",
            "cow": "bull cow cow_white",
            "gnu": "gnu-baby-stand gnu-baby gnu-stand",
            "goat": "goat",
            "sheep": "ram sheep sheep_lamb",
        },
        "animals/mammals/camel": {"camel": "camel dromedary"},
        "animals/mammals/cats": {"lion": "lion-2 lion", "tiger": "tiger tiger_sumatran"},
        "animals/mammals/deer": {"deer": "caribou deer doe wapiti"},
        "animals/mammals/dogs": {"dingo": "dingo", "fox": "fox"},
        "animals/mammals/equines": {"donkey": "donkey donkey_eating", "horse": "horse", "zebra": "zebra"},
        "animals/mammals/rodents": {
            "beaver": "beaver",
            "capybara": "capybara",
            "marmot": "marmot",
            "rabbit": "rabbit rabbit-2",
            "rat": "rat",
            "squirrel": "squirrel",
        },
        "animals/marsupials": {"kangaroo": "kangaroo", "koala": "koala", "wombat": "wombat"},
        "animals/shellfish": {"shell": "abalone murray-mussel"},
        "food/fruit": {
            "apricot": "Apricot_whole apricot",
            "cherries": "Cherry_Stella",
            "strawberry": "Strawberry2",
            "avocado": "avocado",
            "cherimoya": "cherimoya",
            "grapes": "grapes",
            "kiwifruit": "kiwi",
            "orange": "mandarine orange_seville",
            "pineapple": "pineapple",
        },
        "food/spices": {"ginger": "ginger"},
        "food/vegetables": {"broccoli": "broccoli", "corn": "corn"},
        "hobbies": {"binoculars": "binoculars", "camera": "camera_35mm"},
        "hobbies/music/brass": {"trumpet": "trumpet"},
        "hobbies/music/percussion": {"cymbal": "cymbal_crash", "drum": "drum_tomtom_floor", "drum_kit": "drumkit"},
        "hobbies/music/string": {
            "cello": "cello",
            "violin": "violin",
            "guitar": "guitar2 guitar_classical guitar_electric guitar_electric_bass",
        },
        "household": {
            "light_bulb": "Lightbulb",
            "gas_cylinder": "cylinder",
            "garbage_can": "garbagecan wheelie_bin",
            "key": "key",
            "toilet": "toilet",
        },
        "household/dishes": {"pitcher": "pitcher_small"},
        "household/tools": {
            "cement_mixer": "cementmixer",
            "measuring_tape": "measuring_tape",
            "saw": "saw",
            "spade": "spade",
            "toolbox": "toolbox",
            "wrench": "wrench_plumbers",
        },
        "medical": {"stethoscope": "stethoscope"},
        "military/vehicles": {"tank": "bradley infantry-stryker ww2_german_gun", "fighter_jet": "f22_raptor"},
        "people/toys": {"rag_doll": "grannysmith"},
        "plants/flowers": {
            "anemone": "anemone_red",
            "anthurium": "anthoorium",
            "daffodil": "daffodil",
            "iris": "iris",
            "marigold": "marigold",
            "petunia": "whitestar-petunia",
        },
        "plants/mushrooms": {"mushroom": "cep-1 cep-2 cep"},
        "plants/trees": {"palm_tree": "liberia-palm", "pinecone": "pinecone", "holly": "holly_leaves"},
        "seasonal": {"candle": "candle"},
        "seasonal/christmas": {
            "candy_cane": "Candy_cane_photo_1 Candy_cane_photo_2",
            "Christmas_tree": "Christmas_Tree_photo",
            "Christmas_pudding": "Christmas_pudding",
            "mince_pie": "Mince_Pie",
            "roast_turkey": "Roast_turkey",
        },
        "space": {"astronaut": "spacewalk"},
        "sports": {"basketball": "basketball", "soccer_ball": "soccer", "trophy": "trophy_cup"},
        "town": {"post_box": "uk_post_box", "mailbox": "usps_mailbox"},
        "vehicles/auto": {"beetle_car": "beetle", "pickup_truck": "truck"},
        "vehicles/construction": {"dumper": "dumper"},
        "vehicles/cycle": {"tricycle": "pink_tricycle"},
        "vehicles/emergency": {"fire_truck": "firetruck"},
        "vehicles/flight": {"hot_air_balloon": "balloon360"},
        "vehicles/flight/planes": {"airplane": "747"},
        "vehicles": {"garbage_truck": "garbagetruck", "tractor_wheel": "wheel_tractor"},
        "vehicles/masstransit": {"bus": "green_korean_bus"},
        "vehicles/race": {"race_car": "indycar"},
        "vehicles/ship": {"sailing_ship": "chineseJunk walnutBoat"},
    }.items()
    for name, stems in names.items()
}


def cut_outs(cache: Path = CACHE) -> dict[str, list[Pixels]]:
    """Photographs of each name: uint8 (H, W, 4) RGBA without an empty margin.

    Raises:
        DataError: the package cannot be fetched, or a photograph is not in it.
    """
    folder = unpacked(STAMPS[0], cache) / STAMPS[1]
    return {name: [cut_margin(read_picture(folder / file, "RGBA")) for file in files] for name, files in OBJECTS.items()}
