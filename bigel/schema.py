"""The one home of column names, split names, file names and axis suffixes.

Axis suffixes of tensor and array names: ``U`` users, ``I`` items, ``N`` nodes (users, then
items), ``D`` embedding size, ``K`` behaviors, ``B`` batch, ``L`` layers, ``S`` sampled negatives.

External ids (``user_id``, ``item_id``: any int or string) live at the edges only. Inside,
``user`` is 0…U-1, ``item`` is 0…I-1 and ``behavior_index`` is the place in the cascade.
"""

USER_ID = "user_id"
ITEM_ID = "item_id"
BEHAVIOR = "behavior"
TIMESTAMP = "timestamp"  # int64, seconds since 1970-01-01 UTC; of an interaction the latest
TIME_OF_DAY = "time_of_day"  # of a raw row whose timestamp is a day
HOUR, DAY = 3_600, 86_400  # seconds
FIRST = "first"  # int64, as timestamp: when an interaction first happened
UNDONE = "undone"  # int64, as timestamp: when an interaction was taken back, null where it stands
COUNT = "count"  # raw rows merged into one interaction
AMOUNT = "amount"  # int64, millionths: the sum of the log's column that data.weight names
MILLION = 1_000_000  # amounts of a whole
OPENING = "opening"  # as amount: in an hour of history, that of the first event alone
WEIGHT = "weight"  # float64: how much a pair weighs on graphs, see data/weight.py
SPLIT = "split"  # only where the log came split

USER = "user"
ITEM = "item"
BEHAVIOR_INDEX = "behavior_index"

SOURCE_FILE = "source_file"
ROW_NUMBER = "row_number"  # 1-based data row of its file, the header not counted
REASON = "reason"
RAW = "raw"  # the refused row: of text its line, of Parquet the wanted columns as JSON
REFUSED_COLUMNS = (SOURCE_FILE, ROW_NUMBER, REASON, RAW)  # of the quarantine

EARLIER = "earlier"  # inner id in an earlier model, null for a new id
COLD = "cold"  # count of the start stage: why training starts afresh, "" where it does not
CONTENT = "content"  # count of the start stage: digest of what training starts from

ITEM_NAME = "item_name"  # of the catalogue
ALLOWED = "allowed"  # whether an item may be listed tonight
RANK = "rank"  # from 1
SCORE = "score"
SOURCE = "source"  # "model" or "popular"

TRAIN, VALID, TEST = "train", "valid", "test"
SPLITS = (TRAIN, VALID, TEST)
DRAWN = "valid_drawn_from"  # count of the split stage: behaviors of whose train valid was drawn
# Count of the split stage under method "time", Unix seconds: first of valid, first of test, and
# "now", the second after the log's latest event or return.
MOMENTS = "moments"
NOW = "now"
ZONE = "zone"  # count of the same: of days, where it is not UTC
HORIZON = "horizon"  # count of the same: seconds of valid and test that are measured, 0: all

INTERACTIONS_FILE = "interactions.parquet"
EVENTS_FILE = "history.parquet"  # of a log with times: each interaction's first event of each hour
UNDONE_FILE = "undone.parquet"  # with data.undo: what took interactions back, by the hour
QUARANTINE_FILE = "quarantine.parquet"
QUARANTINE_SUMMARY_FILE = "quarantine_summary.parquet"  # refused rows by file and reason
RAW_SUMMARY_FILE = "raw_summary.parquet"
USERS_FILE = "users.parquet"
ITEMS_FILE = "items.parquet"
CATALOGUE_FILE = "catalogue.parquet"
FILTERS_FILE = "filters.parquet"  # beside it: a column for each of items.filters
COVERAGE_FILE = "coverage.parquet"  # which items the log and the catalogue have in common
GRAPHS_FILE = "graphs.safetensors"
WEIGHTS_FILE = "weights.safetensors"
LEARNED_FILE = "learned.parquet"  # held-out pairs that an earlier model was trained on
EMBEDDINGS_FILE = "embeddings.safetensors"
SIGNALS_FILE = "signals.safetensors"
POPULARITY_FILE = "popularity.safetensors"
HISTORY_FILE = "history.json"  # curves of a training
METRICS_FILE = "metrics.json"
HEADLINE = "headline"  # of metrics.json: what is served beside the rule, see evaluate/headline.py
REPORT_FILE = "report.html"
VERDICT_FILE = "verdict.json"  # of a run in MLflow
LATEST_FILE = "latest.json"  # of latest/: which run and which versions the files beside it are of
RECOMMENDATIONS_FILE = "recommendations.parquet"
NOT_LISTED_FILE = "not_listed.parquet"  # items that rules keep out of all lists
RULE_FILE = "rule.parquet"  # what is popular lately, as one list per behavior
NIGHT_FILE = "night.json"  # how the last lists did, {} where there are none to score
NIGHTS_FILE = "nights.json"  # the same of the last nights, oldest first
SEEN_PAIRS_FILE = "seen.parquet"  # what lists leave out: user and item by id, behavior

CALIBRATED = "calibrated"  # whether figures are with trend and funnel memory
PUBLISHED, DISCOVERY = "published", "discovery"
VIEWS = (PUBLISHED, DISCOVERY)
AGAIN_VIEW = "again"  # of behaviors whose lists may hold what the user has
REFIT = "refit"  # the moment of test, for what was trained once more, on train and valid
REFITTED = {view: f"{view}_refitted" for view in VIEWS}  # the same of models that saw validation


def split_file(split: str) -> str:
    """Return the file name of a split, for example ``train.parquet``."""
    return f"{split}.parquet"
