"""Word lists that titles and artist names are put together from; none names a real person."""

GENRES = (
    "pop", "hip hop", "indie rock", "house", "metal", "folk", "soul", "techno", "jazz", "country",
    "reggae", "ambient", "punk", "classical", "funk", "synthwave",
)  # fmt: skip

TITLE_ADJECTIVES = (
    "Amber", "Bitter", "Borrowed", "Broken", "Burning", "Careless", "Cold", "Crimson", "Distant",
    "Drifting", "Electric", "Empty", "Endless", "Fading", "Falling", "Fearless", "Floating",
    "Foreign", "Fragile", "Frozen", "Gentle", "Gilded", "Golden", "Hidden", "Hollow", "Honest",
    "Hungry", "Idle", "Indigo", "Iron", "Last", "Lonely", "Lost", "Lucky", "Midnight", "Neon",
    "Nervous", "Northern", "Paper", "Patient", "Plastic", "Quiet", "Restless", "Rising", "Rusty",
    "Sacred", "Salty", "Scarlet", "Second", "Secret", "Shallow", "Silent", "Silver", "Sleepless",
    "Slow", "Southern", "Stolen", "Strange", "Sudden", "Tender", "Velvet", "Violet", "Wild",
    "Winter",
)  # fmt: skip

TITLE_NOUNS = (
    "Airport", "Anchor", "Answer", "Arcade", "Balcony", "Bridge", "Canyon", "Carnival", "Ceiling",
    "Circle", "Coast", "Compass", "Corner", "Current", "Dancer", "Daylight", "Desert", "Doorway",
    "Echo", "Ember", "Engine", "Evening", "Feather", "Ferry", "Fever", "Field", "Fire", "Garden",
    "Ghost", "Glass", "Harbour", "Heart", "Highway", "Horizon", "Hotel", "Hour", "Island",
    "Journey", "Kitchen", "Ladder", "Lantern", "Letter", "Light", "Machine", "Market", "Memory",
    "Mirror", "Motel", "Mountain", "Ocean", "Orbit", "Parade", "Passenger", "Postcard", "Promise",
    "Radio", "Rain", "River", "Road", "Rooftop", "Season", "Shadow", "Shore", "Signal", "Skyline",
    "Smoke", "Station", "Storm", "Stranger", "Summer", "Telephone", "Tide", "Tower", "Train",
    "Valley", "Voice", "Water", "Weather", "Window", "Wire",
)  # fmt: skip

TITLE_PATTERNS = (
    "{adjective} {noun}", "The {adjective} {noun}", "{noun} ({adjective})",
    "My {adjective} {noun}", "{adjective} {noun}, Part Two", "No {adjective} {noun}",
    "{adjective} Like a {noun}", "Another {adjective} {noun}",
)  # fmt: skip

NAME_STARTS = (
    "Ald", "Bel", "Bor", "Cal", "Cor", "Dal", "Del", "Dor", "El", "Fal", "Fen", "Gal", "Hal",
    "Ir", "Jor", "Kal", "Kor", "Lam", "Lor", "Mal", "Mer", "Mor", "Nal", "Nor", "Ob", "Or", "Pel",
    "Por", "Quil", "Ral", "Sel", "Sol", "Tal", "Tor", "Ul", "Val", "Vel", "Wil", "Yor", "Zel",
)  # fmt: skip

NAME_ENDS = (
    "adra", "amis", "anto", "aphon", "arix", "asco", "avia", "emar", "endo", "enka", "entis",
    "eska", "iana", "idor", "imbra", "inox", "ioma", "isko", "ivane", "odan", "olume", "omira",
    "onda", "orven", "osta", "ubrek", "uline", "umbra", "undo", "yssa",
)  # fmt: skip

BAND_NOUNS = (
    "Afternoon", "Arcs", "Assembly", "Atlas", "Avenue", "Bazaar", "Bloom", "Bureau", "Cartel",
    "Cathedral", "Choir", "Club", "Collective", "Committee", "Company", "Concern", "Congress",
    "Department", "District", "Drive", "Ensemble", "Estate", "Factory", "Federation", "Foundry",
    "Gallery", "Guild", "Holiday", "Index", "Institute", "Junction", "Kiosk", "Laboratory",
    "League", "Library", "Lounge", "Mansion", "Motive", "Observatory", "Office", "Orchard",
    "Orchestra", "Outpost", "Parlour", "Pavilion", "Project", "Quartet", "Reunion", "Salon",
    "Society", "Sound", "Station", "Syndicate", "System", "Theatre", "Theory", "Trio", "Union",
    "Vista", "Workshop",
)  # fmt: skip

BAND_PLURALS = (
    "Acrobats", "Almanacs", "Antelopes", "Archers", "Astronomers", "Barometers", "Cartographers",
    "Comets", "Cormorants", "Dynamos", "Envelopes", "Falcons", "Ferrymen", "Gardeners",
    "Glaciers", "Gramophones", "Herons", "Hurricanes", "Islanders", "Lanterns", "Librarians",
    "Lighthouses", "Magnets", "Mariners", "Meteors", "Metronomes", "Millers", "Navigators",
    "Otters", "Oysters", "Paragraphs", "Pendulums", "Pilgrims", "Satellites", "Sparrows",
    "Telegraphs", "Tinkers", "Umbrellas", "Voyagers", "Weathervanes",
)  # fmt: skip
