-- A conversation as the last version with schema 2 wrote it: a call with its result, a picture, an item that the
-- provider wants back, and a run that waits for a yes to `wipe` until the year 2100.
BEGIN TRANSACTION;
CREATE TABLE conversations (
        conv_id  TEXT PRIMARY KEY,
        created  INTEGER NOT NULL,              -- Unix ms
        version  INTEGER NOT NULL,              -- highest seq that was written
        title    TEXT NOT NULL DEFAULT '',
        settings TEXT NOT NULL DEFAULT '{}'     -- JSON
    ) WITHOUT ROWID;
INSERT INTO "conversations" VALUES('c',1795282922693,1795282922887001,'Twice 21?','{}');
CREATE TABLE entities (
        conv_id     TEXT NOT NULL,
        id          TEXT NOT NULL,
        kind        TEXT NOT NULL,
        created_seq INTEGER NOT NULL,
        version     INTEGER NOT NULL,
        props       TEXT NOT NULL,              -- JSON
        PRIMARY KEY (conv_id, id)
    );
INSERT INTO "entities" VALUES('c','00000000-0000-0000-0000-000000000002','run',1795282922693000,1795282922841002,'{"status":"finished","prompt":"Twice 21?","queuePosition":0,"idempotencyKey":"k1","model":"scripted","stopReason":"stop"}');
INSERT INTO "entities" VALUES('c','00000000-0000-0000-0000-000000000002:user','message',1795282922693001,1795282922693001,'{"role":"user","content":"Twice 21?","idempotencyKey":"k1","images":[{"name":"dot.png","mime":"image/png","data":"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="}]}');
INSERT INTO "entities" VALUES('c','00000000-0000-0000-0000-000000000002:thinking:1','message',1795282922810000,1795282922819000,'{"role":"thinking","content":"Twice.","streaming":false,"status":"complete","model":"scripted"}');
INSERT INTO "entities" VALUES('c','00000000-0000-0000-0000-000000000002:call:1','tool_call',1795282922828000,1795282922839001,'{"name":"double","input":{"n":21},"status":"completed","done":true}');
INSERT INTO "entities" VALUES('c','00000000-0000-0000-0000-000000000002:call:1:result','tool_result',1795282922839000,1795282922839000,'{"toolCallId":"00000000-0000-0000-0000-000000000002:call:1","result":"42"}');
INSERT INTO "entities" VALUES('c','00000000-0000-0000-0000-000000000002:text:1','message',1795282922840000,1795282922841001,'{"role":"assistant","content":"It is 42. é 😀","streaming":false,"status":"complete","model":"scripted"}');
INSERT INTO "entities" VALUES('c','00000000-0000-0000-0000-000000000003','run',1795282922855000,1795282922862001,'{"status":"finished","prompt":"And again?","queuePosition":0,"idempotencyKey":"k2","model":"scripted","stopReason":"stop"}');
INSERT INTO "entities" VALUES('c','00000000-0000-0000-0000-000000000003:user','message',1795282922855001,1795282922855001,'{"role":"user","content":"And again?","idempotencyKey":"k2"}');
INSERT INTO "entities" VALUES('c','00000000-0000-0000-0000-000000000003:text:1','message',1795282922857000,1795282922862000,'{"role":"assistant","content":"Again 42.","streaming":false,"status":"complete","model":"scripted"}');
INSERT INTO "entities" VALUES('c','00000000-0000-0000-0000-000000000004','run',1795282922881000,1795282922881000,'{"status":"started","prompt":"Wipe it.","queuePosition":0,"idempotencyKey":"k3"}');
INSERT INTO "entities" VALUES('c','00000000-0000-0000-0000-000000000004:user','message',1795282922881001,1795282922881001,'{"role":"user","content":"Wipe it.","idempotencyKey":"k3"}');
INSERT INTO "entities" VALUES('c','00000000-0000-0000-0000-000000000004:call:1','tool_call',1795282922887000,1795282922887001,'{"name":"wipe","input":{},"status":"asking","done":false,"approval":{"digest":"af58ec6ad3f4cad3133b921d65499e58858ec93d1bec70474b9f1427c96a877a","expiresAt":4102444800000,"state":"pending"}}');
CREATE TABLE grants (                       -- tools that need not ask any more
        conv_id TEXT NOT NULL,
        tool    TEXT NOT NULL,
        created INTEGER NOT NULL,               -- Unix ms
        PRIMARY KEY (conv_id, tool)
    ) WITHOUT ROWID;
CREATE TABLE keys (                         -- idempotency
        user    TEXT NOT NULL,
        key     TEXT NOT NULL,
        digest  TEXT NOT NULL,
        status  INTEGER NOT NULL,
        body    TEXT NOT NULL,                  -- JSON
        created INTEGER NOT NULL,               -- Unix ms
        PRIMARY KEY (user, key)
    ) WITHOUT ROWID;
INSERT INTO "keys" VALUES('','k1','Twice 21?',200,'{"status":"started","run_id":"00000000-0000-0000-0000-000000000002","conv_id":"c","turn_id":"00000000-0000-0000-0000-000000000002:turn","idempotency_key":"k1"}',1795282922693);
INSERT INTO "keys" VALUES('','k2','And again?',200,'{"status":"started","run_id":"00000000-0000-0000-0000-000000000003","conv_id":"c","turn_id":"00000000-0000-0000-0000-000000000003:turn","idempotency_key":"k2"}',1795282922855);
INSERT INTO "keys" VALUES('','k3','Wipe it.',200,'{"status":"started","run_id":"00000000-0000-0000-0000-000000000004","conv_id":"c","turn_id":"00000000-0000-0000-0000-000000000004:turn","idempotency_key":"k3"}',1795282922881);
CREATE TABLE runs (                         -- accepted, not ended
        run_id  TEXT PRIMARY KEY,
        conv_id TEXT NOT NULL,
        seq     INTEGER NOT NULL,               -- place in the queue
        started INTEGER NOT NULL,
        request TEXT NOT NULL                   -- JSON
    , checkpoint TEXT) WITHOUT ROWID;
INSERT INTO "runs" VALUES('00000000-0000-0000-0000-000000000004','c',1795282922862002,1,'{"prompt":"Wipe it.","conv_id":"c","profile":"default","overrides":{},"key":"k3","digest":"Wipe it.","images":[]}','{"said":"Wipe it.","produced":[{"role":"assistant","tool_calls":[{"id":"call_0","name":"wipe","arguments":"{}"}]}],"calls":["00000000-0000-0000-0000-000000000004:call:1"],"counts":{"text":0,"thinking":0,"call":1,"log":0},"rounds":1,"chars":0,"has_text":false,"left":1799.9998786889992}');
CREATE TABLE turns (                        -- the model's memory
        conv_id  TEXT NOT NULL,
        run_id   TEXT NOT NULL,
        phase    TEXT NOT NULL,
        seq      INTEGER NOT NULL,
        messages TEXT NOT NULL,                 -- JSON
        PRIMARY KEY (conv_id, run_id, phase)
    );
INSERT INTO "turns" VALUES('c','00000000-0000-0000-0000-000000000002','final',1795282922841002,'[{"role":"user","content":"Twice 21?","images":[{"mime":"image/png","data":"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==","name":"dot.png"}]},{"role":"assistant","tool_calls":[{"id":"call_0","name":"double","arguments":"{\"n\": 21}"}],"carried":[{"type":"reasoning","id":"rs_1"}]},{"role":"tool","content":"42","tool_call_id":"call_0"},{"role":"assistant","content":"It is 42. é 😀"}]');
INSERT INTO "turns" VALUES('c','00000000-0000-0000-0000-000000000003','final',1795282922862001,'[{"role":"user","content":"And again?"},{"role":"assistant","content":"Again 42."}]');
CREATE INDEX entities_in_order ON entities (conv_id, created_seq);
CREATE INDEX runs_of ON runs (conv_id, seq);
CREATE INDEX keys_by_age ON keys (created);
COMMIT;
PRAGMA user_version = 2;
