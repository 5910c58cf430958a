-- Which language counts like this?  Words of different lengths in one batch, by MaskZero.
require 'rnn'
require 'optim'
torch.manualSeed(1)

local LANGUAGES = {'English', 'German', 'French'}
local WORDS = {
   {'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten', 'eleven', 'twelve'},
   {'eins', 'zwei', 'drei', 'vier', 'fuenf', 'sechs', 'sieben', 'acht', 'neun', 'zehn', 'elf', 'zwoelf'},
   {'un', 'deux', 'trois', 'quatre', 'cinq', 'six', 'sept', 'huit', 'neuf', 'dix', 'onze', 'douze'},
}
local LETTERS, SIZE, LONGEST = 26, 10, 6

-- the letters of a word as numbers, behind zeros up to the given length
local function padded(word, length)
   local row = torch.zeros(length)
   for i = 1, #word do row[length - #word + i] = word:byte(i) - 96 end
   return row
end

-- steps x words: letters, and the language at each step (any class where there is no letter)
local function batch()
   local letters, languages = {}, {}
   for language, words in ipairs(WORDS) do
      for _, word in ipairs(words) do
         table.insert(letters, padded(word, LONGEST):view(-1, 1))
         table.insert(languages, torch.Tensor(LONGEST, 1):fill(language))
      end
   end
   return torch.cat(letters, 2), torch.cat(languages, 2)
end

local function network(letters, embed, size, classes)
   local model = nn.Sequential()
   model:add(nn.LookupTableMaskZero(letters, embed))                          -- 0 becomes a vector of zeros
   model:add(nn.SplitTable(1))
   model:add(nn.Sequencer(nn.LSTM(embed, size):maskZero(1)))                  -- a vector of zeros resets the state
   model:add(nn.Sequencer(nn.MaskZero(nn.Linear(size, classes), 1)))
   model:add(nn.Sequencer(nn.MaskZero(nn.LogSoftMax(), 1)))
   return model
end

local function train(model, input, target, iterations, config)
   local criterion = nn.SequencerCriterion(nn.MaskZeroCriterion(nn.ClassNLLCriterion(), 1))
   local parameters, gradients = model:getParameters()
   local function evaluate()
      gradients:zero()
      local output = model:forward(input)
      local loss = criterion:forward(output, target)
      model:backward(input, criterion:backward(output, target))
      return loss, gradients
   end
   for i = 1, iterations do
      local _, loss = optim.adam(evaluate, parameters, config)
      if i % 10 == 0 then print(string.format('iteration %2d   loss per step %.4f', i, loss[1] / #target)) end
   end
end

local input, languages = batch()
local model = network(LETTERS, SIZE, SIZE, #LANGUAGES)
train(model, input, nn.SplitTable(1):forward(languages), 60, {learningRate = 0.05})

model:evaluate()
local last = model:forward(input)[LONGEST]        -- every word ends at the last step
local _, best = last:max(2)
local right = best:view(-1):eq(languages[LONGEST]:long()):sum()
print(string.format('%d of %d words are recognised', right, input:size(2)))
local inBatch = last[12 + 12 + 11]:clone()        -- onze

for _, word in ipairs{'sieben', 'nineteen', 'dixneuf'} do
   print(word)
   local letters = padded(word, #word):view(-1, 1)
   for t, output in ipairs(model:forward(letters)) do
      local p = output[1]:clone():exp()
      print(string.format('  %-8s  English %.2f  German %.2f  French %.2f', word:sub(1, t), p[1], p[2], p[3]))
   end
end
local alone = model:forward(padded('onze', 4):view(-1, 1))[4][1]
print(string.format('alone or behind zeros, the difference is %.6f', (alone - inBatch):abs():max()))
