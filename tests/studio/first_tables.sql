-- A project at commit 07f77a1, by sqlite3's iterdump: six pictures, ann, bob (excluded), eve (invited), quinn, an open study.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE assignments (
	id INTEGER NOT NULL, 
	pair_id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	after_left BOOLEAN NOT NULL, 
	token VARCHAR(40) NOT NULL, 
	created DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(pair_id) REFERENCES study_pairs (id), 
	FOREIGN KEY(user_id) REFERENCES users (id), 
	UNIQUE (pair_id, user_id), 
	UNIQUE (token)
);
INSERT INTO "assignments" VALUES(1,2,2,0,'sGmJcq25IyN-mAKAM8cZuqWsVWbIT1ZY','2026-11-26 19:22:10.690544');
CREATE TABLE candidates (
	id INTEGER NOT NULL, 
	prompt_id INTEGER NOT NULL, 
	"key" VARCHAR(200) NOT NULL, 
	image TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(prompt_id) REFERENCES prompts (id), 
	UNIQUE ("key")
);
INSERT INTO "candidates" VALUES(1,1,'0.png','images/bf6f6094a9baed4ded9eb9be79ca45f1.png');
INSERT INTO "candidates" VALUES(2,1,'1.png','images/e6ca487b8df1c20b2f6f8e25977c3147.png');
INSERT INTO "candidates" VALUES(3,1,'2.png','images/82b4aa09ed1383a24a02162401d022da.png');
INSERT INTO "candidates" VALUES(4,2,'3.png','images/74fffa2b91ec4a824f776c0f6d8b87c8.png');
INSERT INTO "candidates" VALUES(5,2,'4.png','images/7054354c4dbba9c41671fd9318ad12ef.png');
INSERT INTO "candidates" VALUES(6,2,'5.png','images/a270c73e9e20b64108c29cc78e76b480.png');
CREATE TABLE examples (
	id INTEGER NOT NULL, 
	candidate_id INTEGER NOT NULL, 
	dimension VARCHAR(80) NOT NULL, 
	score DOUBLE NOT NULL, 
	note TEXT NOT NULL, 
	rubric_version VARCHAR(40) NOT NULL, 
	author_id INTEGER, 
	created DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(author_id) REFERENCES users (id), 
	FOREIGN KEY(candidate_id) REFERENCES candidates (id), 
	UNIQUE (candidate_id, dimension)
);
INSERT INTO "examples" VALUES(1,6,'alignment',3.0,'typical','1',5,'2026-11-26 19:22:10.575214');
INSERT INTO "examples" VALUES(2,5,'beauty',5.0,'','1',2,'2026-11-26 19:22:10.575228');
CREATE TABLE gold (
	id INTEGER NOT NULL, 
	candidate_id INTEGER NOT NULL, 
	dimension VARCHAR(80) NOT NULL, 
	score DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(candidate_id) REFERENCES candidates (id), 
	UNIQUE (candidate_id, dimension)
);
INSERT INTO "gold" VALUES(1,1,'alignment',3.0);
CREATE TABLE labels (
	id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	candidate_id INTEGER NOT NULL, 
	dimension VARCHAR(80) NOT NULL, 
	occasion INTEGER NOT NULL, 
	score DOUBLE, 
	adjusted DOUBLE, 
	state VARCHAR(20) NOT NULL, 
	comment TEXT NOT NULL, 
	seconds DOUBLE, 
	rubric_version VARCHAR(40) NOT NULL, 
	created DATETIME NOT NULL, 
	changed DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(candidate_id) REFERENCES candidates (id), 
	FOREIGN KEY(user_id) REFERENCES users (id), 
	UNIQUE (user_id, candidate_id, dimension, occasion)
);
INSERT INTO "labels" VALUES(1,2,1,'alignment',0,3.0,NULL,'submitted','',2.5,'1','2026-11-26 19:22:10.559618','2026-11-26 19:22:10.559713');
INSERT INTO "labels" VALUES(2,3,1,'alignment',0,5.0,NULL,'submitted','',2.5,'1','2026-11-26 19:22:10.559715','2026-11-26 19:22:10.559717');
INSERT INTO "labels" VALUES(3,2,2,'alignment',0,3.0,3.5,'submitted','',2.5,'1','2026-11-26 19:22:10.559718','2026-11-26 19:22:10.576426');
INSERT INTO "labels" VALUES(4,3,2,'alignment',0,5.0,NULL,'submitted','',2.5,'1','2026-11-26 19:22:10.559721','2026-11-26 19:22:10.559722');
INSERT INTO "labels" VALUES(5,2,3,'alignment',0,4.0,NULL,'accepted','',2.5,'1','2026-11-26 19:22:10.559724','2026-11-26 19:22:10.580999');
INSERT INTO "labels" VALUES(6,3,3,'alignment',0,5.0,NULL,'submitted','',2.5,'1','2026-11-26 19:22:10.559726','2026-11-26 19:22:10.559727');
INSERT INTO "labels" VALUES(7,2,4,'alignment',0,5.0,NULL,'returned','look again',2.5,'1','2026-11-26 19:22:10.559729','2026-11-26 19:22:10.581439');
INSERT INTO "labels" VALUES(8,3,4,'alignment',0,5.0,NULL,'submitted','',2.5,'1','2026-11-26 19:22:10.559731','2026-11-26 19:22:10.559732');
INSERT INTO "labels" VALUES(9,2,5,'alignment',0,1.0,NULL,'submitted','',2.5,'1','2026-11-26 19:22:10.559734','2026-11-26 19:22:10.559735');
INSERT INTO "labels" VALUES(10,3,5,'alignment',0,5.0,NULL,'submitted','',2.5,'1','2026-11-26 19:22:10.559736','2026-11-26 19:22:10.559737');
INSERT INTO "labels" VALUES(11,2,2,'alignment',1,2.0,NULL,'submitted','',NULL,'1','2026-11-26 19:22:10.581860','2026-11-26 19:22:10.581864');
INSERT INTO "labels" VALUES(12,2,1,'beauty',0,NULL,NULL,'submitted','',NULL,'1','2026-11-26 19:22:10.582446','2026-11-26 19:22:10.582449');
CREATE TABLE predictions (
	id INTEGER NOT NULL, 
	candidate_id INTEGER NOT NULL, 
	dimension VARCHAR(80) NOT NULL, 
	mean DOUBLE NOT NULL, 
	std DOUBLE NOT NULL, 
	model TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(candidate_id) REFERENCES candidates (id), 
	UNIQUE (candidate_id, dimension)
);
INSERT INTO "predictions" VALUES(1,3,'alignment',2.5,0.5,'student');
CREATE TABLE prompts (
	id INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	"group" VARCHAR(200) NOT NULL, 
	tags JSON NOT NULL, 
	split VARCHAR(40), 
	PRIMARY KEY (id), 
	UNIQUE ("group")
);
INSERT INTO "prompts" VALUES(1,'a red cube','9f967626aad3681265acae6ac6a6a2d349237425eb02f3b3328e403006e1b905','["winter"]',NULL);
INSERT INTO "prompts" VALUES(2,'two "blue" balls; it''s late','a06b469a5c890e70bf9c9cdefd5d8713928687b9883060c2a3b30ed2c9ae9e3b','["winter"]',NULL);
CREATE TABLE repetitions (
	id INTEGER NOT NULL, 
	candidate_id INTEGER NOT NULL, 
	dimension VARCHAR(80) NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(candidate_id) REFERENCES candidates (id), 
	UNIQUE (candidate_id, dimension)
);
INSERT INTO "repetitions" VALUES(1,2,'alignment');
CREATE TABLE rubric_versions (
	id INTEGER NOT NULL, 
	version VARCHAR(40) NOT NULL, 
	text TEXT NOT NULL, 
	note TEXT NOT NULL, 
	author_id INTEGER, 
	created DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(author_id) REFERENCES users (id), 
	UNIQUE (version)
);
INSERT INTO "rubric_versions" VALUES(1,'1','name: short
version: ''1''
scale:
  min: 1.0
  max: 5.0
  step: 1.0
labels:
- ''1''
- ''2''
- ''3''
- ''4''
- ''5''
dimensions:
- name: alignment
  title: Alignment
  question: Does the picture show what was asked for?
  anchors:
    1: nothing of it
    5: all of it
- name: beauty
  title: Beauty
  question: Is it nice to look at?
  anchors:
    1: ugly
    5: beautiful
','',NULL,'2026-11-26 19:22:06.506515');
CREATE TABLE studies (
	id INTEGER NOT NULL, 
	name VARCHAR(80) NOT NULL, 
	"before" TEXT NOT NULL, 
	"after" TEXT NOT NULL, 
	aspects JSON NOT NULL, 
	raters_per_pair INTEGER NOT NULL, 
	seed INTEGER NOT NULL, 
	closed DATETIME, 
	created DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "studies" VALUES(1,'Winter study','old','new','["overall"]',1,1372185494,NULL,'2026-11-26 19:22:10.645022');
CREATE TABLE study_pairs (
	id INTEGER NOT NULL, 
	study_id INTEGER NOT NULL, 
	prompt TEXT NOT NULL, 
	tags JSON NOT NULL, 
	"before" TEXT NOT NULL, 
	"after" TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(study_id) REFERENCES studies (id)
);
INSERT INTO "study_pairs" VALUES(1,1,'a red cube','["winter"]','studies/47b29f56e20cab5c09d3340cd2da6307.png','studies/cfccbe54cf7d391b0d1da566fd2094c1.png');
INSERT INTO "study_pairs" VALUES(2,1,'two "blue" balls; it''s late','["winter"]','studies/16e8c14cfdc99e0c4a9bed027a78d3d4.png','studies/834ce6b1859d6cc463a62a4221008838.png');
CREATE TABLE users (
	id INTEGER NOT NULL, 
	name VARCHAR(80) NOT NULL, 
	role VARCHAR(20) NOT NULL, 
	password_hash VARCHAR(200), 
	invitation_hash VARCHAR(64), 
	invitation_ends DATETIME, 
	session_version INTEGER NOT NULL, 
	active BOOLEAN NOT NULL, 
	excluded BOOLEAN NOT NULL, 
	created DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (invitation_hash), 
	UNIQUE (name)
);
INSERT INTO "users" VALUES(1,'admin','administrator',NULL,'8f6154b535a0815eb37cd585b9e3519e5e45a3e93f5494b56fc001da41a24795','2026-12-03 19:22:06.996208',0,1,0,'2026-11-26 19:22:07.066109');
INSERT INTO "users" VALUES(2,'ann','annotator','$argon2id$v=19$m=65536,t=3,p=4$TGDvI/X+wI5Je+1sLRswEA$dvfLilkx7O8pdckomjZ543aQdpI6MUZ+661FlTrZa/E',NULL,NULL,1,1,0,'2026-11-26 19:22:07.153037');
INSERT INTO "users" VALUES(3,'bob','annotator','$argon2id$v=19$m=65536,t=3,p=4$lDPyqIHRisEozcXMH6YN9g$dF8FR0rtnuQZLEbuOIRRulZEqrpf9sl2RANMTbjsHPs',NULL,NULL,1,1,1,'2026-11-26 19:22:08.111136');
INSERT INTO "users" VALUES(4,'eve','annotator',NULL,'c76301617265169677042ed175bc2245a45c6b8afaa0b4e40568f9c339130198','2026-12-03 19:22:09.146585',0,1,0,'2026-11-26 19:22:09.147068');
INSERT INTO "users" VALUES(5,'quinn','quality','$argon2id$v=19$m=65536,t=3,p=4$BIFPdzO1+TaVCoiyNQ/pxA$Eicr69zaV/0aFqCgwSYfyiYXORd06FlI7IUe9/OhSmU',NULL,NULL,1,1,0,'2026-11-26 19:22:09.154635');
CREATE TABLE verdicts (
	id INTEGER NOT NULL, 
	assignment_id INTEGER NOT NULL, 
	aspect VARCHAR(80) NOT NULL, 
	outcome VARCHAR(10) NOT NULL, 
	seconds DOUBLE, 
	created DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(assignment_id) REFERENCES assignments (id), 
	UNIQUE (assignment_id, aspect)
);
INSERT INTO "verdicts" VALUES(1,1,'overall','bad',NULL,'2026-11-26 19:22:10.702710');
CREATE INDEX ix_candidates_prompt_id ON candidates (prompt_id);
CREATE INDEX ix_study_pairs_study_id ON study_pairs (study_id);
CREATE INDEX ix_assignments_pair_id ON assignments (pair_id);
CREATE INDEX ix_assignments_user_id ON assignments (user_id);
CREATE INDEX ix_examples_dimension ON examples (dimension);
CREATE INDEX labels_by_candidate ON labels (candidate_id, dimension);
CREATE INDEX labels_by_panel ON labels (dimension, occasion, candidate_id, state, score, adjusted);
CREATE INDEX labels_by_rater ON labels (user_id, occasion, state);
CREATE INDEX labels_by_state ON labels (state, dimension);
CREATE INDEX ix_verdicts_assignment_id ON verdicts (assignment_id);
COMMIT;
