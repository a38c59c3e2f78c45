"""The only asyncio in the core: service -> manager -> conversation -> coordinator -> pool."""
