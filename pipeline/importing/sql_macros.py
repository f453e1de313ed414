"""How text is read as a time, a number or a market: the SQL that all checks share."""

_ISO_8601 = (
    r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2})?)(?:[.,]\d+)?"
    r"(?:Z|([+-]\d{2})(?::?(\d{2}))?)?)?$"
)
_ISO_8601_PARTS = "['day', 'clock', 'zone_hours', 'zone_minutes']"

# DuckDB's own cast of text to TIMESTAMP drops the offset ("+02:00") without a word, so the
# offset is subtracted here. `kept` keeps the first of equal entries: list_distinct reorders.
MACROS = f"""
CREATE MACRO is_number(text) AS coalesce(isfinite(TRY_CAST(text AS DOUBLE)), false);
CREATE MACRO iso_s(part) AS
    epoch(TRY_CAST(part.day || ' ' || coalesce(nullif(part.clock, ''), '00:00') AS TIMESTAMP)
         )::BIGINT
    - coalesce(TRY_CAST(part.zone_hours AS BIGINT), 0) * 3600
    - coalesce(TRY_CAST(part.zone_minutes AS BIGINT), 0)
      * CASE WHEN starts_with(part.zone_hours, '-') THEN -60 ELSE 60 END;
CREATE MACRO unix_s(text) AS
    CASE WHEN abs(TRY_CAST(text AS DOUBLE)) < 9e15 THEN floor(TRY_CAST(text AS DOUBLE))::BIGINT
         WHEN regexp_matches(text, '{_ISO_8601}')
         THEN iso_s(regexp_extract(text, '{_ISO_8601}', {_ISO_8601_PARTS})) END;
CREATE MACRO release_s(text) AS
    CASE WHEN regexp_full_match(text, '[12]\\d{{3}}') THEN unix_s(text || '-01-01')
         ELSE unix_s(text) END;
CREATE MACRO whole_number(text) AS
    CASE WHEN regexp_full_match(text, '[+-]?\\d+(\\.0*)?') THEN TRY_CAST(text AS BIGINT) END;
CREATE MACRO is_market(text) AS regexp_full_match(text, '[A-Z]{{2}}');
CREATE MACRO has_control(text) AS regexp_matches(text, '[\\x00-\\x1f\\x7f]');
CREATE MACRO trimmed(entries) AS
    list_filter(list_transform(coalesce(entries, []), lambda entry: trim(entry)),
                lambda entry: entry <> '');
CREATE MACRO kept(entries) AS
    list_filter(entries, lambda entry, place: list_position(entries, entry) = place);
"""
